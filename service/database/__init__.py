"""PostgreSQL access: one module per aggregate, one function per query, records in and out."""
