"""SQL of the outcomes' tables."""
