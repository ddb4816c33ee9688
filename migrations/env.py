"""How Alembic runs our migrations: one at a time, never waiting long for a lock, nor running long unasked.

A migration whose work grows with the data says so by ``migrations.rewriting.take_alone``, and has no
time-out; any other that takes longer than a minute is a mistake, and is stopped.

The caller hands over an open SQLAlchemy connection in ``config.attributes["connection"]``, and the
``statement_timeout`` (as PostgreSQL writes it) beside it.
"""

from __future__ import annotations

from alembic import context

# Arbitrary and fixed: whoever migrates holds it, others wait.
_ADVISORY_LOCK = 5_373_170_001
_LOCK_TIMEOUT = "4s"


def run() -> None:
    """Run the migrations that are due, each in a transaction of its own."""
    connection = context.config.attributes["connection"].execution_options(no_parameters=True)
    connection.exec_driver_sql(f"SELECT pg_advisory_lock({_ADVISORY_LOCK})")
    connection.exec_driver_sql(f"SET lock_timeout = '{_LOCK_TIMEOUT}'")
    statement_timeout = context.config.attributes["statement_timeout"]
    connection.exec_driver_sql(f"SET statement_timeout = '{statement_timeout}'")
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
