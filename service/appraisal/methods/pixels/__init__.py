"""Comparators on pixels: absolute difference and structural similarity."""
