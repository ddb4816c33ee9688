"""Whose a photograph is: numbers, who is whom, and studies that hold photographs of two patients.

The index of what is held gets the patient into its keys, so that a study of two patients is found under
each of them. ``patient`` is the logical id of the Patient of a photograph's own number.

Revision ID: 0100
"""

from __future__ import annotations

import hashlib
from uuid import UUID, uuid5

import sqlalchemy as sa
from alembic import op

from migrations.rewriting import take_alone

revision = "0100"
down_revision: str | None = "0080"
branch_labels: str | None = None
depends_on: str | None = None

_NAMESPACE = UUID("ff4fb2ea-c9a1-40f2-9e68-3a7a4b375972")

_SCHEMA = """
-- Numbers that photographs came under.
CREATE TABLE fhir_patient_number (
    patient                text COLLATE "C" PRIMARY KEY,  -- logical id derived from issuer and number
    system                 text COLLATE "C" NOT NULL,     -- of the identifier; '' when it is not known
    value                  text COLLATE "C" NOT NULL
);
CREATE INDEX fhir_patient_number_value ON fhir_patient_number (value, system);

-- Who is whom: a row for every Patient that is one of several of the same person.
CREATE TABLE fhir_person (
    patient                text COLLATE "C" PRIMARY KEY,
    person                 text COLLATE "C" NOT NULL      -- the Patient that stands for them all, itself too
);
CREATE INDEX fhir_person_person ON fhir_person (person);

-- Questions of identity that somebody has to decide; a row stays when it is decided.
CREATE TABLE patient_conflict (
    patient_conflict_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind                   text NOT NULL,
    subject                text NOT NULL,                 -- Study Instance UID, or logical id of a Patient
    patients               text[] NOT NULL,               -- logical ids
    noticed_at             timestamptz NOT NULL DEFAULT now(),
    resolved_at            timestamptz,
    UNIQUE (kind, subject)
);

ALTER TABLE held_instance DROP CONSTRAINT held_instance_study_instance_uid_series_instance_uid_fkey;
ALTER TABLE held_series DROP CONSTRAINT held_series_study_instance_uid_fkey;
ALTER TABLE held_series DROP CONSTRAINT held_series_pkey;
ALTER TABLE held_study DROP CONSTRAINT held_study_pkey;
ALTER TABLE held_study ADD COLUMN patient text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE held_series ADD COLUMN patient text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE held_instance ADD COLUMN patient text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE held_study ALTER COLUMN patient DROP DEFAULT;
ALTER TABLE held_series ALTER COLUMN patient DROP DEFAULT;
ALTER TABLE held_instance ALTER COLUMN patient DROP DEFAULT;
"""

# A study of two patients is indexed anew, others get the patient they have.
_FILL = """
CREATE TEMPORARY TABLE mixed ON COMMIT DROP AS
    SELECT h.study_instance_uid FROM held_instance h JOIN instance i USING (instance_id)
    GROUP BY 1 HAVING count(DISTINCT (i.patient_id, i.issuer_of_patient_id)) > 1;
INSERT INTO held_pending (sop_instance_uid, sha256, instance_id, is_result)
    SELECT sop_instance_uid, sha256, instance_id, is_result FROM held_instance
    WHERE study_instance_uid IN (SELECT study_instance_uid FROM mixed) ON CONFLICT DO NOTHING;
DELETE FROM held_instance WHERE study_instance_uid IN (SELECT study_instance_uid FROM mixed);
DELETE FROM held_series WHERE study_instance_uid IN (SELECT study_instance_uid FROM mixed);
DELETE FROM held_study WHERE study_instance_uid IN (SELECT study_instance_uid FROM mixed);
UPDATE held_instance h SET patient = o.patient FROM owner o WHERE o.study_instance_uid = h.study_instance_uid;
UPDATE held_series h SET patient = o.patient FROM owner o WHERE o.study_instance_uid = h.study_instance_uid;
UPDATE held_study h SET patient = o.patient FROM owner o WHERE o.study_instance_uid = h.study_instance_uid;
"""

_KEYS = """
ALTER TABLE held_study ADD PRIMARY KEY (study_instance_uid, patient);
ALTER TABLE held_series ADD PRIMARY KEY (study_instance_uid, series_instance_uid, patient);
ALTER TABLE held_series ADD FOREIGN KEY (study_instance_uid, patient) REFERENCES held_study;
ALTER TABLE held_instance ADD FOREIGN KEY (study_instance_uid, series_instance_uid, patient)
    REFERENCES held_series;
CREATE INDEX held_study_patient ON held_study (patient);

INSERT INTO fhir_patient_number (patient, system, value)
    SELECT DISTINCT ON (r.id) r.id, t.system, t.code
    FROM fhir_resource r JOIN fhir_token t USING (resource_id)
    WHERE r.type = 'Patient' AND r.author = 'semblance' AND t.param = 201 ON CONFLICT DO NOTHING;
"""


def upgrade() -> None:
    """Create the tables, and say of what is held whose it is."""
    take_alone("held_instance", "held_series", "held_study", "held_pending")
    op.execute(_SCHEMA)
    connection = op.get_bind()
    connection.execute(
        sa.text(
            'CREATE TEMPORARY TABLE owner (study_instance_uid text COLLATE "C" PRIMARY KEY, patient text)'
            " ON COMMIT DROP"
        )
    )
    rows = connection.execute(
        sa.text(
            "SELECT DISTINCT ON (h.study_instance_uid) h.study_instance_uid, i.patient_id,"
            " i.issuer_of_patient_id FROM held_instance h JOIN instance i USING (instance_id)"
        )
    ).all()
    if rows:
        connection.execute(
            sa.text("INSERT INTO owner VALUES (:study, :patient)"),
            [
                {"study": study, "patient": _own_patient(issuer, number, study)}
                for study, number, issuer in rows
            ],
        )
    op.execute(_FILL)
    op.execute(_KEYS)


def _own_patient(issuer: str, number: str, study: str) -> str:
    """Logical id of the Patient of a photograph's own number, as it was derived when this was written."""
    parts = ("fhir", "Patient", issuer, number) if number else ("fhir", "Patient", "study", study)
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return str(uuid5(_NAMESPACE, digest.hexdigest()))
