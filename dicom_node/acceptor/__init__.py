"""Accepting associations: the upper layer, negotiation, the receiving processes."""
