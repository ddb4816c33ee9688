"""The commands of audit messages and of the chain over all that is sealed."""
