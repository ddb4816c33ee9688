"""Synthetic validity: how well a method finds, ranks and localises synthetic anomalies."""
