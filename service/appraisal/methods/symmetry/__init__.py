"""The face against its own mirror image; needs no weights."""
