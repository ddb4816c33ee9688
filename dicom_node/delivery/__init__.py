"""Results on their way to destinations: C-STORE, STOW-RS, circuit breakers."""
