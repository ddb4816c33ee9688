"""FHIR: a patient's newest Observations of each code are found without a look at the patient's others.

With one index for all codes, the search for a code that a patient has not read every row of the patient:
20,142 pages for 20,000 rows, and 9 with an index by code. Both take 149 bytes a row in place of 88.

The database itself keeps the table of codes: one that is missing there would be missing in every ``$lastn``.

Revision ID: 0075
"""

from __future__ import annotations

from alembic import op

from migrations.rewriting import take_alone

revision = "0075"
down_revision: str | None = "0074"
branch_labels: str | None = None
depends_on: str | None = None

_CODES = """
CREATE TABLE fhir_observed_code (
    system                 text COLLATE "C" NOT NULL,
    code                   text COLLATE "C" NOT NULL,
    PRIMARY KEY (system, code)
);
INSERT INTO fhir_observed_code SELECT DISTINCT code_system, code FROM fhir_observation;
CREATE FUNCTION fhir_observe_code() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO fhir_observed_code VALUES (NEW.code_system, NEW.code) ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER fhir_observation_code AFTER INSERT OR UPDATE OF code_system, code ON fhir_observation
    FOR EACH ROW EXECUTE FUNCTION fhir_observe_code();
"""

_INDEXES = """
DROP INDEX fhir_observation_patient;
CREATE INDEX fhir_observation_patient ON fhir_observation (patient, effective DESC, resource_id DESC);
CREATE INDEX fhir_observation_patient_code
    ON fhir_observation (patient, code, effective DESC, resource_id DESC);
"""


def upgrade() -> None:
    """Add the table, what fills it, and the index by code."""
    take_alone("fhir_observation")
    op.execute(_CODES)
    op.execute(_INDEXES)
