"""Commands of surgical outcomes."""
