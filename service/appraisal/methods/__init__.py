"""Methods, a room each: its networks, normaliser, comparator and figures."""
