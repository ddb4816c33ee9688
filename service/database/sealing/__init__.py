"""SQL of the chain of digests."""
