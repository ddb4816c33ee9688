"""Audit messages, and the chain of digests that seals them and the ledger.

Revision ID: 0060
"""

from __future__ import annotations

from alembic import op

from migrations.rewriting import take_alone

revision = "0060"
down_revision: str | None = "0040"
branch_labels: str | None = None
depends_on: str | None = None

_SCHEMA = """
-- Audit messages of DICOM PS3.15 annex A.5, as they are sent.
CREATE TABLE audit_message (
    audit_id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id               text NOT NULL,
    outcome                smallint NOT NULL,
    at                     timestamptz NOT NULL,
    message                text NOT NULL
);

-- The chain: each digest is over its predecessor and a row of the ledger or of audit_message.
CREATE TABLE seal (
    position               bigint PRIMARY KEY,
    source                 text NOT NULL CHECK (source IN ('ledger', 'audit')),
    row_id                 bigint NOT NULL,
    digest                 bytea NOT NULL,
    UNIQUE (source, row_id)
);
CREATE INDEX seal_audit ON seal (position) WHERE source = 'audit';

-- Rows that wait for their seal; written with them, so that none is missed.
CREATE TABLE seal_pending (
    source                 text NOT NULL,
    row_id                 bigint NOT NULL,
    PRIMARY KEY (source, row_id)
);

-- Up to which position of the chain the audit messages are with a syslog server.
CREATE TABLE audit_forwarded (
    sink                   text PRIMARY KEY,
    position               bigint NOT NULL
);

-- By which association an instance came.
ALTER TABLE instance ADD COLUMN association_id text NOT NULL DEFAULT '';
CREATE INDEX ledger_association ON ledger ((detail ->> 'association')) WHERE event = 'associated';

CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION USING MESSAGE = TG_TABLE_NAME || ' is append-only'; END $$;
CREATE TRIGGER audit_message_append_only BEFORE UPDATE OR DELETE ON audit_message
    FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_message_no_truncate BEFORE TRUNCATE ON audit_message
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER seal_append_only BEFORE UPDATE OR DELETE ON seal
    FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER seal_no_truncate BEFORE TRUNCATE ON seal
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();

CREATE FUNCTION ledger_awaits_seal() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO seal_pending SELECT 'ledger', ledger_id FROM added; RETURN NULL; END $$;
CREATE TRIGGER ledger_awaits_seal AFTER INSERT ON ledger
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION ledger_awaits_seal();
CREATE FUNCTION audit_message_awaits_seal() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO seal_pending SELECT 'audit', audit_id FROM added; RETURN NULL; END $$;
CREATE TRIGGER audit_message_awaits_seal AFTER INSERT ON audit_message
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION audit_message_awaits_seal();
INSERT INTO seal_pending SELECT 'ledger', ledger_id FROM ledger;
"""


def upgrade() -> None:
    """Create the tables."""
    take_alone("instance", "ledger")
    op.execute(_SCHEMA)
