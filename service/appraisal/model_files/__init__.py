"""Model files: the manifest and what is on disk, and conversion from foreign files without running them."""
