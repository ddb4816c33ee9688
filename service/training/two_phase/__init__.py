"""Trains the method of paper 002."""
