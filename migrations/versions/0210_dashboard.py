"""The dashboard: who may log in, sessions with the purposes given in them, logins that failed; its counts.

Revision ID: 0210
"""

from __future__ import annotations

from alembic import op

from migrations.rewriting import take_alone

revision = "0210"
down_revision: str | None = "0200"
branch_labels: str | None = None
depends_on: str | None = None

_SCHEMA = """
CREATE TABLE web_user (
    name text COLLATE "C" PRIMARY KEY CHECK (name <> ''),
    full_name text NOT NULL,
    roles text[] NOT NULL CHECK (cardinality(roles) > 0),
    passcode text NOT NULL, -- a digest
    passcode_set_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    disabled_at timestamptz
);

CREATE TABLE web_session (
    token_sha256 bytea PRIMARY KEY, -- of what the browser keeps
    user_name text NOT NULL,
    full_name text NOT NULL,
    roles text[] NOT NULL, -- of a user who is none of ours; of ours those of web_user count
    way text NOT NULL CHECK (way IN ('passcode', 'machine', 'oidc')),
    peer_address text NOT NULL,
    begun_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    ends_at timestamptz NOT NULL
);
CREATE INDEX web_session_user ON web_session (user_name);
CREATE INDEX web_session_ends ON web_session (ends_at);

-- Why a patient was opened in a session; each is a line of the ledger too.
CREATE TABLE web_purpose (
    token_sha256 bytea NOT NULL REFERENCES web_session ON DELETE CASCADE,
    patient text NOT NULL, -- logical id
    purpose text NOT NULL,
    given_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (token_sha256, patient)
);

CREATE TABLE web_login_failure (
    web_login_failure_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name_sha256 bytea NOT NULL,
    peer_address text NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX web_login_failure_name ON web_login_failure (name_sha256, at);
CREATE INDEX web_login_failure_address ON web_login_failure (peer_address, at);

-- What today's numbers and their lists are counted from.
CREATE INDEX instance_received ON instance (received_at);
CREATE INDEX instance_delivered ON instance (progressed_at) WHERE state = 'delivered';
CREATE INDEX instance_dead ON instance (instance_id) WHERE state = 'dead';
CREATE INDEX appraisal_rejected ON appraisal (created_at) WHERE status = 'rejected';
"""


def upgrade() -> None:
    """Add tables, and indexes to tables that may be large."""
    take_alone("instance", "appraisal")
    op.execute(_SCHEMA)
