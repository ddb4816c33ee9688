"""AuditEvents of the FHIR API are append-only, and sealed with the ledger.

Revision ID: 0071
"""

from __future__ import annotations

from alembic import op

from migrations.rewriting import take_alone

revision = "0071"
down_revision: str | None = "0070"
branch_labels: str | None = None
depends_on: str | None = None

_SCHEMA = """
ALTER TABLE seal DROP CONSTRAINT seal_source_check;
ALTER TABLE seal ADD CONSTRAINT seal_source_check CHECK (source IN ('ledger', 'audit', 'fhir')) NOT VALID;

CREATE TRIGGER fhir_audit_event_append_only BEFORE UPDATE OR DELETE ON fhir_resource
    FOR EACH ROW WHEN (OLD.type = 'AuditEvent') EXECUTE FUNCTION audit_is_append_only();

CREATE FUNCTION fhir_audit_event_awaits_seal() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO seal_pending VALUES ('fhir', NEW.resource_id); RETURN NULL; END $$;
CREATE TRIGGER fhir_audit_event_awaits_seal AFTER INSERT ON fhir_resource
    FOR EACH ROW WHEN (NEW.type = 'AuditEvent') EXECUTE FUNCTION fhir_audit_event_awaits_seal();
INSERT INTO seal_pending SELECT 'fhir', resource_id FROM fhir_resource WHERE type = 'AuditEvent';
"""


def upgrade() -> None:
    """Add the triggers."""
    take_alone("fhir_resource", "seal", "seal_pending")
    op.execute(_SCHEMA)
