"""What query/retrieve and DICOMweb offer: an index of photographs and results by their headers.

Revision ID: 0061
"""

from __future__ import annotations

from alembic import op

from migrations.rewriting import take_alone

revision = "0061"
down_revision: str | None = "0060"
branch_labels: str | None = None
depends_on: str | None = None

_SCHEMA = """
-- Attributes are the DICOM JSON Model (PS3.18 annex F); names are folded for comparison.
CREATE TABLE held_study (
    study_instance_uid     text COLLATE "C" PRIMARY KEY,
    attributes             jsonb NOT NULL,
    names                  jsonb NOT NULL
);
CREATE INDEX held_study_newest ON held_study
    (((attributes #>> '{00080020,Value,0}') COLLATE "C") DESC NULLS LAST, study_instance_uid);
CREATE INDEX held_study_patient_id ON held_study ((attributes #>> '{00100020,Value,0}'));
CREATE INDEX held_study_accession_number ON held_study ((attributes #>> '{00080050,Value,0}'));

CREATE TABLE held_series (
    study_instance_uid     text COLLATE "C" NOT NULL REFERENCES held_study,
    series_instance_uid    text COLLATE "C" NOT NULL,
    attributes             jsonb NOT NULL,
    names                  jsonb NOT NULL,
    PRIMARY KEY (study_instance_uid, series_instance_uid)
);
CREATE INDEX held_series_uid ON held_series (series_instance_uid);

CREATE TABLE held_instance (
    sop_instance_uid       text COLLATE "C" PRIMARY KEY,
    sop_class_uid          text NOT NULL,
    study_instance_uid     text COLLATE "C" NOT NULL,
    series_instance_uid    text COLLATE "C" NOT NULL,
    transfer_syntax_uid    text NOT NULL,
    sha256                 text NOT NULL,
    size_bytes             bigint NOT NULL,
    number_of_frames       integer NOT NULL,
    instance_id            bigint NOT NULL REFERENCES instance,
    is_result              boolean NOT NULL,
    attributes             jsonb NOT NULL,
    names                  jsonb NOT NULL,
    FOREIGN KEY (study_instance_uid, series_instance_uid) REFERENCES held_series
);
CREATE INDEX held_instance_series ON held_instance (study_instance_uid, series_instance_uid);

-- Instances whose headers have not been read yet.
CREATE TABLE held_pending (
    sop_instance_uid       text COLLATE "C" PRIMARY KEY,
    sha256                 text NOT NULL,
    instance_id            bigint NOT NULL,
    is_result              boolean NOT NULL,
    attempts               integer NOT NULL DEFAULT 0
);
CREATE FUNCTION queue_holding() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN
        INSERT INTO held_pending (sop_instance_uid, sha256, instance_id, is_result)
            SELECT sop_instance_uid, sha256, instance_id, false FROM added ON CONFLICT DO NOTHING;
        RETURN NULL;
    END $$;
CREATE TRIGGER instance_is_held AFTER INSERT ON instance REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION queue_holding();

-- What is held already.
INSERT INTO held_pending (sop_instance_uid, sha256, instance_id, is_result)
    SELECT sop_instance_uid, sha256, instance_id, false FROM instance ON CONFLICT DO NOTHING;
INSERT INTO held_pending (sop_instance_uid, sha256, instance_id, is_result)
    SELECT DISTINCT ON (sop_instance_uid) sop_instance_uid, sha256, instance_id, true FROM delivery
    ON CONFLICT DO NOTHING;
"""


def upgrade() -> None:
    """Create the index and queue what is held already."""
    take_alone("instance", "delivery")
    op.execute(_SCHEMA)
