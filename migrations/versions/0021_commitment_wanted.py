"""Storage commitment we ask of destinations for what they took.

Revision ID: 0021
"""

from __future__ import annotations

from alembic import op

revision = "0021"
down_revision: str | None = "0020"
branch_labels: str | None = None
depends_on: str | None = None

_SCHEMA = """
CREATE TABLE commitment_wanted (
    delivery_id            bigint PRIMARY KEY REFERENCES delivery,
    transaction_uid        text NOT NULL UNIQUE,
    attempts               integer NOT NULL DEFAULT 0,
    next_attempt_at        timestamptz NOT NULL DEFAULT now(),
    settled_at             timestamptz,
    last_error             text NOT NULL DEFAULT ''
);
CREATE INDEX commitment_wanted_due ON commitment_wanted (next_attempt_at) WHERE settled_at IS NULL;
"""


def upgrade() -> None:
    """Create the table."""
    op.execute(_SCHEMA)
