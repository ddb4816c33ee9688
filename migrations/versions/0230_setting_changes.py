"""Changes of settings are lines of the ledger; the last of each is found by an index.

Revision ID: 0230
"""

from __future__ import annotations

from alembic import op

from migrations.rewriting import take_alone

revision = "0230"
down_revision: str | None = "0220"
branch_labels: str | None = None
depends_on: str | None = None

_SCHEMA = """
CREATE INDEX ledger_setting ON ledger ((detail ->> 'process'), (detail ->> 'setting'), ledger_id)
    WHERE event = 'setting-changed';
"""


def upgrade() -> None:
    """Add the index."""
    take_alone("ledger")
    op.execute(_SCHEMA)
