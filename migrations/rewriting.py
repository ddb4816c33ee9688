"""For migrations that read, rewrite or index every row of a table: on a large database they take minutes."""

from __future__ import annotations

from alembic import op


def take_alone(*tables: str) -> None:
    """Take tables for the rest of this migration, which may then run as long as it has to.

    The locks come first and all at once, under the lock time-out: a migration that cannot have them gives way
    before it has done any work, and one that has them is stopped by nothing of ours. What it does is one
    transaction: interrupted (a crash, a full disk), it leaves the revision before, whole, to be run again.

    Args:
        tables: That it reads as a whole, rewrites or indexes, and that exist before it.
    """
    op.execute(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE")
    op.execute("SET LOCAL statement_timeout = 0")  # until the migration ends: each has its own transaction
