"""How Alembic runs our migrations: one at a time, never waiting long for a lock, never running long.

The caller hands over an open SQLAlchemy connection in ``config.attributes["connection"]``.
"""

from __future__ import annotations

from alembic import context

# Arbitrary and fixed: whoever migrates holds it, others wait.
_ADVISORY_LOCK = 5_373_170_001
_LOCK_TIMEOUT = "4s"
_STATEMENT_TIMEOUT = "60s"


def run() -> None:
    """Run the migrations that are due, each in a transaction of its own."""
    connection = context.config.attributes["connection"].execution_options(no_parameters=True)
    connection.exec_driver_sql(f"SELECT pg_advisory_lock({_ADVISORY_LOCK})")
    connection.exec_driver_sql(f"SET lock_timeout = '{_LOCK_TIMEOUT}'")
    connection.exec_driver_sql(f"SET statement_timeout = '{_STATEMENT_TIMEOUT}'")
    connection.commit()
    try:
        context.configure(connection=connection, transaction_per_migration=True)
        with context.begin_transaction():
            context.run_migrations()
    finally:
        connection.rollback()
        connection.exec_driver_sql(f"SELECT pg_advisory_unlock({_ADVISORY_LOCK})")
        connection.commit()


run()
