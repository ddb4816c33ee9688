"""What a received object goes through before the sender reads success."""
