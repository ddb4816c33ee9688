"""The instance store: bytes by their SHA-256."""
