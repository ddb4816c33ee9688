"""Commands that train networks and calibrate methods."""
