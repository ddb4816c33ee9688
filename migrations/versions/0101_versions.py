"""Corrections of photographs: earlier versions are kept, quarantine comes to an end.

Revision ID: 0101
"""

from __future__ import annotations

from alembic import op

from migrations.rewriting import take_alone

revision = "0101"
down_revision: str | None = "0140"
branch_labels: str | None = None
depends_on: str | None = None

_SCHEMA = """
ALTER TABLE instance ADD COLUMN version integer NOT NULL DEFAULT 1;
-- What a photograph was before it was corrected.
CREATE TABLE instance_version (
    instance_id            bigint NOT NULL REFERENCES instance,
    version                integer NOT NULL,
    sha256                 text NOT NULL,
    size_bytes             bigint NOT NULL,
    transfer_syntax_uid    text NOT NULL,
    study_instance_uid     text NOT NULL,
    series_instance_uid    text NOT NULL,
    patient_id             text NOT NULL,
    issuer_of_patient_id   text NOT NULL,
    superseded_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (instance_id, version)
);

-- What became of an object in quarantine: 'same', 'corrected', 'accepted', 'discarded'; NULL: nothing yet.
ALTER TABLE quarantine ADD COLUMN resolution text;
ALTER TABLE quarantine ADD COLUMN resolved_at timestamptz;
ALTER TABLE quarantine ADD COLUMN resolved_by text NOT NULL DEFAULT '';
CREATE INDEX quarantine_open ON quarantine (quarantine_id) WHERE resolution IS NULL;

-- Of pixels that were replaced since.
ALTER TABLE appraisal ADD COLUMN is_superseded boolean NOT NULL DEFAULT false;

CREATE INDEX delivery_result ON delivery (sop_instance_uid);

-- A photograph with other bytes is indexed anew, and the results of the bytes before are no more held.
CREATE FUNCTION hold_again() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN
        DELETE FROM held_pending WHERE instance_id = NEW.instance_id;
        DELETE FROM held_instance WHERE instance_id = NEW.instance_id;
        DELETE FROM held_series s WHERE s.study_instance_uid = OLD.study_instance_uid AND NOT EXISTS
            (SELECT FROM held_instance i WHERE i.study_instance_uid = s.study_instance_uid
             AND i.series_instance_uid = s.series_instance_uid AND i.patient = s.patient);
        DELETE FROM held_study s WHERE s.study_instance_uid = OLD.study_instance_uid AND NOT EXISTS
            (SELECT FROM held_series e WHERE e.study_instance_uid = s.study_instance_uid
             AND e.patient = s.patient);
        INSERT INTO held_pending (sop_instance_uid, sha256, instance_id, is_result)
            VALUES (NEW.sop_instance_uid, NEW.sha256, NEW.instance_id, false) ON CONFLICT DO NOTHING;
        RETURN NULL;
    END $$;
CREATE TRIGGER instance_is_held_again AFTER UPDATE OF sha256 ON instance
    FOR EACH ROW WHEN (OLD.sha256 IS DISTINCT FROM NEW.sha256) EXECUTE FUNCTION hold_again();
"""


def upgrade() -> None:
    """Create them."""
    take_alone("instance", "quarantine", "appraisal", "delivery")
    op.execute(_SCHEMA)
