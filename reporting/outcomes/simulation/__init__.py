"""Made-up cases with things planted in them, to see whether the charts find exactly those."""
