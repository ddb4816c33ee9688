"""What more than one bench is made of, or would be too long for one module."""
