"""The whole product on one machine: PostgreSQL, broker and every process, under one supervisor."""
