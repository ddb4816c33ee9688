"""FHIR: subscriptions and their notifications; compressed resources stay in their row.

Revision ID: 0070
"""

from __future__ import annotations

from alembic import op

revision = "0070"
down_revision: str | None = "0061"
branch_labels: str | None = None
depends_on: str | None = None

_SCHEMA = """
-- A compressed Observation is a little over 2 kB: left in its row, no second look-up reads it.
ALTER TABLE fhir_resource SET (toast_tuple_target = 4080);

-- What the server needs of a Subscription, beside the resource; headers hold secrets and are not served.
CREATE TABLE fhir_subscription (
    subscription_id        text COLLATE "C" PRIMARY KEY,   -- logical id
    client_id              text NOT NULL,                  -- who made it
    is_active              boolean NOT NULL,
    criteria               text NOT NULL,
    endpoint               text NOT NULL,
    payload                text NOT NULL,                  -- MIME type; '' for none
    headers                text[] NOT NULL,
    ends_at                timestamptz
);
CREATE INDEX fhir_subscription_active ON fhir_subscription (subscription_id) WHERE is_active;

-- One version of a resource for one subscription.
CREATE TABLE fhir_notification (
    notification_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subscription_id        text COLLATE "C" NOT NULL REFERENCES fhir_subscription,
    resource_type          text COLLATE "C" NOT NULL,
    resource_id            text COLLATE "C" NOT NULL,
    version_id             integer NOT NULL,
    state                  text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sent', 'dead')),
    attempts               integer NOT NULL DEFAULT 0,
    next_attempt_at        timestamptz NOT NULL DEFAULT now(),
    created_at             timestamptz NOT NULL DEFAULT now(),
    sent_at                timestamptz,
    last_error             text NOT NULL DEFAULT '',
    UNIQUE (subscription_id, resource_type, resource_id, version_id)
);
CREATE INDEX fhir_notification_due ON fhir_notification (next_attempt_at) WHERE state = 'pending';
"""


def upgrade() -> None:
    """Create the tables."""
    op.execute(_SCHEMA)
