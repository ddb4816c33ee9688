"""The science: pure functions of arrays; no database, no Celery."""
