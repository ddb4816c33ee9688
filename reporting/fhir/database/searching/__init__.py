"""Searches as SQL: criteria become conditions, conditions a page of rows."""
