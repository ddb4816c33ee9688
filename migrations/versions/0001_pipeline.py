"""Instances, ledger, outbox, appraisals, deliveries, dead letters.

Revision ID: 0001
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None

_SCHEMA = """
CREATE TABLE instance (
    instance_id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sop_instance_uid       text NOT NULL UNIQUE,
    sop_class_uid          text NOT NULL,
    study_instance_uid     text NOT NULL,
    series_instance_uid    text NOT NULL,
    transfer_syntax_uid    text NOT NULL,
    patient_id             text NOT NULL,
    issuer_of_patient_id   text NOT NULL,
    calling_ae_title       text NOT NULL,
    called_ae_title        text NOT NULL,
    peer_address           text NOT NULL,
    sha256                 text NOT NULL,
    size_bytes             bigint NOT NULL,
    state                  text NOT NULL DEFAULT 'received',
    attempts               integer NOT NULL DEFAULT 0,
    progressed_at          timestamptz NOT NULL DEFAULT now(),
    next_attempt_at        timestamptz NOT NULL DEFAULT now(),
    received_at            timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX instance_study ON instance (study_instance_uid);
CREATE INDEX instance_unfinished ON instance (next_attempt_at)
    WHERE state IN ('received', 'appraised', 'reported');

-- Bytes that came under a known SOP Instance UID but differ: kept, never processed.
CREATE TABLE quarantine (
    quarantine_id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instance_id            bigint NOT NULL REFERENCES instance,
    sop_instance_uid       text NOT NULL,
    sha256                 text NOT NULL,
    size_bytes             bigint NOT NULL,
    calling_ae_title       text NOT NULL,
    peer_address           text NOT NULL,
    received_at            timestamptz NOT NULL DEFAULT now(),
    UNIQUE (sop_instance_uid, sha256)
);

CREATE TABLE ledger (
    ledger_id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instance_id            bigint REFERENCES instance,
    sop_instance_uid       text NOT NULL,
    event                  text NOT NULL,
    at                     timestamptz NOT NULL DEFAULT now(),
    detail                 jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX ledger_instance ON ledger (instance_id, ledger_id);
CREATE INDEX ledger_uid ON ledger (sop_instance_uid, ledger_id);
CREATE FUNCTION ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the ledger is append-only'; END $$;
CREATE TRIGGER ledger_append_only BEFORE UPDATE OR DELETE ON ledger
    FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER ledger_no_truncate BEFORE TRUNCATE ON ledger
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();

-- Messages to the broker, written in the transaction that made them necessary.
CREATE TABLE outbox (
    outbox_id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task                   text NOT NULL,
    queue                  text NOT NULL,
    subject_id             text NOT NULL,
    created_at             timestamptz NOT NULL DEFAULT now(),
    not_before             timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX outbox_due ON outbox (not_before, outbox_id);

CREATE TABLE appraisal (
    appraisal_id           uuid PRIMARY KEY,
    instance_id            bigint NOT NULL REFERENCES instance,
    pixel_sha256           text NOT NULL,
    method_name            text NOT NULL,
    method_version         text NOT NULL,
    normaliser             text NOT NULL,
    comparator             text NOT NULL,
    weights_sha256         text NOT NULL,
    config_sha256          text NOT NULL,
    calibration            text NOT NULL,
    status                 text NOT NULL,
    reasons                text[] NOT NULL,
    score                  double precision,
    rating                 double precision,
    percentile             double precision,
    regions                jsonb NOT NULL,
    quality                jsonb NOT NULL,
    warnings               text[] NOT NULL,
    heatmap_sha256         text NOT NULL,
    difference_map_sha256  text NOT NULL,
    created_at             timestamptz NOT NULL DEFAULT now(),
    CHECK ((status = 'rejected') = (score IS NULL))
);
CREATE INDEX appraisal_instance ON appraisal (instance_id, created_at);

CREATE TABLE delivery (
    delivery_id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instance_id            bigint NOT NULL REFERENCES instance,
    appraisal_id           uuid NOT NULL REFERENCES appraisal,
    destination            text NOT NULL,
    sop_class_uid          text NOT NULL,
    sop_instance_uid       text NOT NULL,
    sha256                 text NOT NULL,
    state                  text NOT NULL DEFAULT 'pending',
    attempts               integer NOT NULL DEFAULT 0,
    next_attempt_at        timestamptz NOT NULL DEFAULT now(),
    last_error             text NOT NULL DEFAULT '',
    delivered_at           timestamptz,
    UNIQUE (destination, sop_instance_uid)
);
CREATE INDEX delivery_due ON delivery (next_attempt_at) WHERE state = 'pending';
CREATE INDEX delivery_instance ON delivery (instance_id);

CREATE TABLE dead_letter (
    dead_letter_id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instance_id            bigint NOT NULL REFERENCES instance,
    step                   text NOT NULL,
    error                  text NOT NULL,
    traceback              text NOT NULL,
    at                     timestamptz NOT NULL DEFAULT now(),
    resolved_at            timestamptz
);
CREATE INDEX dead_letter_instance ON dead_letter (instance_id);
"""


def upgrade() -> None:
    """Create the pipeline's tables."""
    op.execute(_SCHEMA)
