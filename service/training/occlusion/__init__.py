"""Trains the occlusion gate."""
