"""Storage commitment asked of us, until it is reported.

Revision ID: 0020
"""

from __future__ import annotations

from alembic import op

revision = "0020"
down_revision: str | None = "0030"
branch_labels: str | None = None
depends_on: str | None = None

_SCHEMA = """
CREATE TABLE commitment_request (
    commitment_id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    transaction_uid        text NOT NULL,
    requester_ae_title     text NOT NULL,
    requester_address      text NOT NULL,
    sop_class_uids         text[] NOT NULL,
    sop_instance_uids      text[] NOT NULL,
    requested_at           timestamptz NOT NULL DEFAULT now(),
    attempts               integer NOT NULL DEFAULT 0,
    next_attempt_at        timestamptz NOT NULL DEFAULT now(),
    reported_at            timestamptz,
    last_error             text NOT NULL DEFAULT '',
    UNIQUE (requester_ae_title, transaction_uid),
    CHECK (cardinality(sop_class_uids) = cardinality(sop_instance_uids))
);
CREATE INDEX commitment_request_due ON commitment_request (next_attempt_at) WHERE reported_at IS NULL;
"""


def upgrade() -> None:
    """Create the table."""
    op.execute(_SCHEMA)
