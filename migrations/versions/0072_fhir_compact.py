"""FHIR: what resources have alike is kept once; the components of an Observation lie in its row.

Most of what an Observation took were copies of texts that every other Observation has too: 5 kB were measured
with 4 of its 33 components and their indexes.

Revision ID: 0072
"""

from __future__ import annotations

from alembic import op

from migrations.rewriting import take_alone

revision = "0072"
down_revision: str | None = "0071"
branch_labels: str | None = None
depends_on: str | None = None

INDEXED_SLOTS = 40

_TEMPLATES = """
-- Texts that many resources have alike, with U+001F (which no JSON holds) in each place that differs.
CREATE TABLE fhir_template (
    number                 integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest                 bytea NOT NULL UNIQUE,       -- SHA-256 of text
    text                   text NOT NULL
);
-- Plain in its pages: it is read with every resource that is made of it.
ALTER TABLE fhir_template ALTER COLUMN text SET STORAGE EXTERNAL;
CREATE FUNCTION fhir_template_is_insert_only() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'FHIR templates are insert-only: resources are made of them'; END $$;
CREATE TRIGGER fhir_template_insert_only BEFORE UPDATE OR DELETE ON fhir_template
    FOR EACH ROW EXECUTE FUNCTION fhir_template_is_insert_only();
CREATE TRIGGER fhir_template_no_truncate BEFORE TRUNCATE ON fhir_template
    FOR EACH STATEMENT EXECUTE FUNCTION fhir_template_is_insert_only();

-- With a template, ``body`` holds the resource's own texts alone, U+001F between them.
ALTER TABLE fhir_resource ADD COLUMN template_id integer REFERENCES fhir_template;
ALTER TABLE fhir_history ADD COLUMN template_id integer REFERENCES fhir_template;

-- The exact text served, for who has psql alone: SELECT fhir_text(template_id, body) FROM fhir_resource.
CREATE FUNCTION fhir_text(template_id integer, body text) RETURNS text STABLE LANGUAGE sql AS $$
    SELECT CASE WHEN template_id IS NULL THEN body ELSE (
        SELECT string_agg(concat(x.alike, x.own), '' ORDER BY x.place)
        FROM fhir_template t CROSS JOIN LATERAL unnest(
            string_to_array(t.text, chr(31)), string_to_array(body, chr(31))
        ) WITH ORDINALITY AS x(alike, own, place)
        WHERE t.number = template_id) END
$$;
"""

_COMPONENTS = """
-- What components measure, each with its place in fhir_observation.amounts; never changed or taken away.
CREATE TABLE fhir_measure (
    slot                   smallint PRIMARY KEY CHECK (slot > 0),
    system                 text COLLATE "C" NOT NULL,
    code                   text COLLATE "C" NOT NULL,
    unit                   text COLLATE "C" NOT NULL,   -- UCUM code, '' for none
    UNIQUE (system, code, unit)
);
INSERT INTO fhir_measure SELECT row_number() OVER (ORDER BY min(resource_id), code_system, code), code_system,
    code, coalesce(value_unit, '') FROM fhir_component GROUP BY code_system, code, coalesce(value_unit, '');

ALTER TABLE fhir_observation
    ADD COLUMN amounts double precision[],              -- of components, by slot
    ADD COLUMN absent smallint[];                       -- slots of components without a value
WITH every AS (
    SELECT c.resource_id, m.slot, c.value::double precision AS value FROM fhir_component c JOIN fhir_measure m
    ON m.system = c.code_system AND m.code = c.code AND m.unit = coalesce(c.value_unit, '')
), laid AS (
    SELECT r.resource_id, array_agg(e.value ORDER BY s.slot) AS amounts
    FROM (SELECT resource_id, max(slot) AS last FROM every WHERE value IS NOT NULL GROUP BY 1) r
    CROSS JOIN LATERAL generate_series(1, r.last) AS s(slot)
    LEFT JOIN every e ON e.resource_id = r.resource_id AND e.slot = s.slot GROUP BY 1
), unvalued AS (
    SELECT resource_id, array_agg(slot ORDER BY slot) AS absent FROM every WHERE value IS NULL GROUP BY 1
)
UPDATE fhir_observation o SET amounts = laid.amounts, absent = unvalued.absent
FROM laid FULL JOIN unvalued USING (resource_id) WHERE o.resource_id = coalesce(laid.resource_id, unvalued.resource_id);
DROP TABLE fhir_component;
"""  # noqa: E501

_CODINGS = """
-- Codes that Observations are found by and that few are used of; never changed or taken away.
CREATE TABLE fhir_coding (
    number                 integer PRIMARY KEY CHECK (number > 0),
    param                  smallint NOT NULL,
    system                 text COLLATE "C" NOT NULL,
    code                   text COLLATE "C" NOT NULL,
    UNIQUE (param, system, code)
);
INSERT INTO fhir_coding SELECT row_number() OVER (ORDER BY param, system, code), param, system, code
    FROM (SELECT DISTINCT param, system, code FROM fhir_token
    WHERE param IN (101, 107, 108, 110, 112, 113, 114, 115)) AS used;
ALTER TABLE fhir_observation ADD COLUMN codings integer[] NOT NULL DEFAULT '{}';
UPDATE fhir_observation o SET codings = used.numbers FROM (
    SELECT t.resource_id, array_agg(c.number ORDER BY c.number) AS numbers
    FROM fhir_token t JOIN fhir_coding c USING (param, system, code) GROUP BY 1) AS used
WHERE used.resource_id = o.resource_id;
DELETE FROM fhir_token WHERE param IN (SELECT param FROM fhir_coding);
CREATE INDEX fhir_observation_codings ON fhir_observation USING gin (codings);
"""

_INDEXES = """
-- One index leads to a patient's Observations with any code: nearly all have the same.
DROP INDEX fhir_observation_patient_code;
DROP INDEX fhir_observation_patient;
CREATE INDEX fhir_observation_patient
    ON fhir_observation (patient, effective DESC, resource_id DESC) INCLUDE (code);

-- The keys held the values a second time; equal row ids take little room in an index.
ALTER TABLE fhir_token DROP CONSTRAINT fhir_token_pkey;
CREATE INDEX fhir_token_resource ON fhir_token (resource_id);
ALTER TABLE fhir_reference DROP CONSTRAINT fhir_reference_pkey;
CREATE INDEX fhir_reference_resource ON fhir_reference (resource_id);
"""


def upgrade() -> None:
    """Add the templates, lay the components into the rows, and index each slot."""
    take_alone(
        "fhir_resource", "fhir_history", "fhir_observation", "fhir_component", "fhir_token", "fhir_reference"
    )
    op.execute(_TEMPLATES)
    op.execute(_COMPONENTS)
    op.execute(_CODINGS)
    for slot in range(1, INDEXED_SLOTS + 1):
        op.execute(
            f"CREATE INDEX fhir_observation_amount_{slot} ON fhir_observation"
            f" ((amounts[{slot}]), resource_id) WHERE amounts[{slot}] IS NOT NULL"
        )
    op.execute(_INDEXES)
