"""Whether a resource is valid, by R4 and by profile."""
