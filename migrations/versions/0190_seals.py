"""What a claim rests on is sealed: appraisals, photographs, deliveries, versions of FHIR resources.

Revision ID: 0190
"""

from __future__ import annotations

from alembic import op

from migrations.rewriting import take_alone

revision = "0190"
down_revision: str | None = "0180"
branch_labels: str | None = None
depends_on: str | None = None

_SCHEMA = """
-- Which state of a row: its version, or what else tells it from others; '' where a row never changes.
ALTER TABLE seal ADD COLUMN row_key text COLLATE "C" NOT NULL DEFAULT '';
-- How a row's content is written for its digest: 1 by our program, 2 by PostgreSQL.
ALTER TABLE seal ADD COLUMN form smallint NOT NULL DEFAULT 1;
ALTER TABLE seal ALTER COLUMN form SET DEFAULT 2;
ALTER TABLE seal DROP CONSTRAINT seal_source_row_id_key;
CREATE UNIQUE INDEX seal_row ON seal (source, row_id, row_key);
ALTER TABLE seal DROP CONSTRAINT seal_source_check;
ALTER TABLE seal ADD CONSTRAINT seal_source_check
    CHECK (source IN ('ledger', 'audit', 'fhir', 'resource', 'appraisal', 'instance', 'delivery')) NOT VALID;

ALTER TABLE seal_pending ADD COLUMN row_key text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE seal_pending ADD COLUMN since timestamptz NOT NULL DEFAULT now();
ALTER TABLE seal_pending DROP CONSTRAINT seal_pending_pkey;
ALTER TABLE seal_pending ADD PRIMARY KEY (source, row_id, row_key);

-- An AuditEvent is a resource as others are; those sealed as 'fhir' keep their seals.
DROP TRIGGER fhir_audit_event_awaits_seal ON fhir_resource;
DROP FUNCTION fhir_audit_event_awaits_seal();
UPDATE seal_pending SET source = 'resource', row_key = '1' WHERE source = 'fhir';

CREATE FUNCTION resource_awaits_seal() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO seal_pending (source, row_id, row_key)
        SELECT 'resource', resource_id, version_id FROM added ON CONFLICT DO NOTHING;
    RETURN NULL; END $$;
CREATE TRIGGER resource_awaits_seal AFTER INSERT ON fhir_resource
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION resource_awaits_seal();
CREATE FUNCTION version_awaits_seal() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO seal_pending (source, row_id, row_key) VALUES ('resource', NEW.resource_id, NEW.version_id)
        ON CONFLICT DO NOTHING;
    RETURN NULL; END $$;
CREATE TRIGGER version_awaits_seal AFTER UPDATE OF version_id ON fhir_resource
    FOR EACH ROW WHEN (OLD.version_id <> NEW.version_id) EXECUTE FUNCTION version_awaits_seal();

CREATE FUNCTION appraisal_awaits_seal() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO seal_pending (source, row_id, row_key)
        VALUES ('appraisal', NEW.instance_id, NEW.appraisal_id || ' ' || NEW.calibration)
        ON CONFLICT DO NOTHING;
    RETURN NULL; END $$;
CREATE TRIGGER appraisal_awaits_seal AFTER INSERT ON appraisal
    FOR EACH ROW EXECUTE FUNCTION appraisal_awaits_seal();
CREATE TRIGGER rating_awaits_seal AFTER UPDATE OF calibration ON appraisal
    FOR EACH ROW WHEN (OLD.calibration <> NEW.calibration) EXECUTE FUNCTION appraisal_awaits_seal();

CREATE FUNCTION instance_awaits_seal() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO seal_pending (source, row_id, row_key)
        SELECT 'instance', instance_id, version FROM added ON CONFLICT DO NOTHING;
    RETURN NULL; END $$;
CREATE TRIGGER instance_awaits_seal AFTER INSERT ON instance
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION instance_awaits_seal();
CREATE FUNCTION correction_awaits_seal() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO seal_pending (source, row_id, row_key) VALUES ('instance', NEW.instance_id, NEW.version)
        ON CONFLICT DO NOTHING;
    RETURN NULL; END $$;
CREATE TRIGGER correction_awaits_seal AFTER UPDATE OF version ON instance
    FOR EACH ROW WHEN (OLD.version <> NEW.version) EXECUTE FUNCTION correction_awaits_seal();

CREATE FUNCTION delivery_awaits_seal() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO seal_pending (source, row_id)
        SELECT 'delivery', delivery_id FROM added ON CONFLICT DO NOTHING;
    RETURN NULL; END $$;
CREATE TRIGGER delivery_awaits_seal AFTER INSERT ON delivery
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION delivery_awaits_seal();

-- What is there already.
INSERT INTO seal_pending (source, row_id, row_key)
    SELECT 'instance', instance_id, version::text FROM instance
    UNION ALL SELECT 'instance', instance_id, version::text FROM instance_version
    UNION ALL SELECT 'appraisal', instance_id, appraisal_id || ' ' || calibration FROM appraisal
    UNION ALL SELECT 'appraisal', a.instance_id, f.appraisal_id || ' ' || f.calibration
        FROM former_rating f JOIN appraisal a USING (appraisal_id) WHERE a.calibration <> f.calibration
    UNION ALL SELECT 'delivery', delivery_id, '' FROM delivery
    UNION ALL SELECT 'resource', resource_id, version_id::text FROM fhir_resource r
        WHERE NOT EXISTS (SELECT FROM seal s WHERE s.source = 'fhir' AND s.row_id = r.resource_id)
    UNION ALL SELECT 'resource', r.resource_id, h.version_id::text
        FROM fhir_history h JOIN fhir_resource r USING (type, id)
ON CONFLICT DO NOTHING;
"""


def upgrade() -> None:
    """Add keys, triggers, and what waits."""
    take_alone(
        "appraisal",
        "delivery",
        "fhir_history",
        "fhir_resource",
        "former_rating",
        "instance",
        "instance_version",
        "seal",
        "seal_pending",
    )
    op.execute(_SCHEMA)
