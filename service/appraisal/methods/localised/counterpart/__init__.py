"""The default method's normaliser: the face as its other parts let one expect it."""
