"""How destinations fare, who holds a delivery, and how complete studies are.

Revision ID: 0040
"""

from __future__ import annotations

from alembic import op

from migrations.rewriting import take_alone

revision = "0040"
down_revision: str | None = "0021"
branch_labels: str | None = None
depends_on: str | None = None

_SCHEMA = """
ALTER TABLE delivery ADD COLUMN claimed_until timestamptz;  -- set while a worker sends it
CREATE INDEX delivery_waiting ON delivery (destination, next_attempt_at) WHERE state = 'pending';

CREATE TABLE destination_state (
    destination            text PRIMARY KEY,
    breaker                text NOT NULL DEFAULT 'closed',
    failures               integer NOT NULL DEFAULT 0,      -- in a row
    openings               integer NOT NULL DEFAULT 0,      -- in a row; each doubles the pause
    retry_at               timestamptz NOT NULL DEFAULT now(),  -- next probe; half-open: probe is lost
    changed_at             timestamptz NOT NULL DEFAULT now(),
    succeeded_at           timestamptz,
    failed_at              timestamptz,
    last_error             text NOT NULL DEFAULT '',
    CHECK (breaker IN ('closed', 'open', 'half-open'))
);

CREATE TABLE study (
    study_instance_uid     text PRIMARY KEY,
    state                  text NOT NULL DEFAULT 'open',
    opened_at              timestamptz NOT NULL DEFAULT now(),
    last_received_at       timestamptz NOT NULL,
    closed_at              timestamptz,
    reopened               integer NOT NULL DEFAULT 0,
    missing                text[] NOT NULL DEFAULT '{}',    -- SOP Instance UIDs of manifests
    revision               integer NOT NULL DEFAULT 1,      -- counts changes of state or missing
    reported_revision      integer NOT NULL DEFAULT 1,      -- what the DiagnosticReport shows
    asked_at               timestamptz,                     -- when a report of it was last asked for
    CHECK (state IN ('open', 'complete', 'incomplete', 'quiet'))
);
CREATE INDEX study_open ON study (last_received_at) WHERE state = 'open';
CREATE INDEX study_unreported ON study (asked_at) WHERE reported_revision < revision;
CREATE INDEX study_missing ON study (study_instance_uid) WHERE missing <> '{}';
CREATE INDEX commitment_request_instances ON commitment_request USING gin (sop_instance_uids);
"""


def upgrade() -> None:
    """Add the column, the indexes and the tables."""
    take_alone("delivery", "commitment_request")
    op.execute(_SCHEMA)
