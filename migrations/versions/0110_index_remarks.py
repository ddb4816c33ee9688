"""What of a header could not be indexed, and why an instance rests outside of the index.

Revision ID: 0110
"""

from __future__ import annotations

from alembic import op

from migrations.rewriting import take_alone

revision = "0110"
down_revision: str | None = "0090"
branch_labels: str | None = None
depends_on: str | None = None

_SCHEMA = """
ALTER TABLE held_pending ADD COLUMN last_error text NOT NULL DEFAULT '';
ALTER TABLE held_instance ADD COLUMN remarks text[] NOT NULL DEFAULT '{}';
CREATE INDEX held_instance_remarks ON held_instance (instance_id) WHERE remarks <> '{}';
-- What gave up before may well be read now.
UPDATE held_pending SET attempts = 0;
"""


def upgrade() -> None:
    """Add the columns, and try what rests once more."""
    take_alone("held_pending", "held_instance")
    op.execute(_SCHEMA)
