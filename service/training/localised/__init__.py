"""Trains the default method."""
