"""The index of headers that queries are answered from, in PostgreSQL."""
