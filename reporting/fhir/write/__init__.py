"""Writing: create, update, transactions, withdrawal."""
