"""Searching: criteria, restriction to what the caller may see, pages."""
