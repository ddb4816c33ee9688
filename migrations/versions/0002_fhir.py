"""FHIR resources: the exact bytes served beside typed search columns; history insert-only.

Two kinds of search columns. Observation, of which there are tens of millions, has a hot table whose
indexes end in the order that pages are served in, so that a page costs the same at any size. What is
sparse, and everything of the other types, is in one narrow table a search type (token, reference,
date, string), keyed by the parameter's number in ``reporting.fhir.search_table``.

Revision ID: 0002
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None

_SCHEMA = """
-- Current version of every resource. ``body`` is the JSON text as served.
CREATE TABLE fhir_resource (
    resource_id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    type                   text COLLATE "C" NOT NULL,
    id                     text COLLATE "C" NOT NULL,
    version_id             integer NOT NULL,
    last_updated           timestamptz NOT NULL,
    author                 text NOT NULL,              -- 'semblance', or the client that wrote this version
    patient                text COLLATE "C",           -- logical id of the Patient compartment it is in
    occurred               timestamptz,                -- lower bound of the type's main date
    content_sha256         bytea NOT NULL,             -- of the content without version and lastUpdated
    body                   text NOT NULL,
    UNIQUE (type, id)
);
CREATE INDEX fhir_resource_order ON fhir_resource (type, resource_id);
CREATE INDEX fhir_resource_updated ON fhir_resource (type, last_updated, resource_id);
CREATE INDEX fhir_resource_patient ON fhir_resource (patient, type, resource_id) WHERE patient IS NOT NULL;
CREATE INDEX fhir_resource_occurred ON fhir_resource (type, occurred, resource_id);

-- Superseded versions, moved here in the transaction that replaced them.
CREATE TABLE fhir_history (
    type                   text COLLATE "C" NOT NULL,
    id                     text COLLATE "C" NOT NULL,
    version_id             integer NOT NULL,
    last_updated           timestamptz NOT NULL,
    author                 text NOT NULL,
    patient                text COLLATE "C",
    body                   text NOT NULL,
    PRIMARY KEY (type, id, version_id)
);
CREATE INDEX fhir_history_updated ON fhir_history (type, last_updated, id, version_id);
CREATE FUNCTION fhir_history_is_insert_only() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the FHIR history is insert-only'; END $$;
CREATE TRIGGER fhir_history_insert_only BEFORE UPDATE OR DELETE ON fhir_history
    FOR EACH ROW EXECUTE FUNCTION fhir_history_is_insert_only();
CREATE TRIGGER fhir_history_no_truncate BEFORE TRUNCATE ON fhir_history
    FOR EACH STATEMENT EXECUTE FUNCTION fhir_history_is_insert_only();

-- Hot search columns of Observation, one row a resource.
CREATE TABLE fhir_observation (
    resource_id            bigint PRIMARY KEY REFERENCES fhir_resource ON DELETE CASCADE,
    patient                text COLLATE "C",
    code_system            text COLLATE "C" NOT NULL,
    code                   text COLLATE "C" NOT NULL,
    status                 text COLLATE "C" NOT NULL,
    device                 text COLLATE "C",
    effective              timestamptz NOT NULL,
    effective_high         timestamptz NOT NULL,        -- exclusive
    value                  numeric,
    value_unit             text COLLATE "C",            -- UCUM code
    -- searches rely on it to bound index scans by effective alone
    CHECK (effective_high > effective AND effective_high <= effective + interval '1 day')
);
CREATE INDEX fhir_observation_patient_code
    ON fhir_observation (patient, code, effective DESC, resource_id DESC);
CREATE INDEX fhir_observation_patient ON fhir_observation (patient, effective DESC, resource_id DESC);
CREATE INDEX fhir_observation_code ON fhir_observation (code, effective DESC, resource_id DESC);
CREATE INDEX fhir_observation_effective ON fhir_observation (effective DESC, resource_id DESC);
CREATE INDEX fhir_observation_device ON fhir_observation (device, effective DESC, resource_id DESC);
CREATE INDEX fhir_observation_value ON fhir_observation (value, resource_id) WHERE value IS NOT NULL;
CREATE INDEX fhir_observation_unusual ON fhir_observation (status, effective DESC, resource_id DESC)
    WHERE status <> 'final';

-- Measured components of Observations.
CREATE TABLE fhir_component (
    resource_id            bigint NOT NULL REFERENCES fhir_resource ON DELETE CASCADE,
    code_system            text COLLATE "C" NOT NULL,
    code                   text COLLATE "C" NOT NULL,
    value                  numeric,
    value_unit             text COLLATE "C",
    PRIMARY KEY (resource_id, code)
);
CREATE INDEX fhir_component_value ON fhir_component (code, value, resource_id);

-- Sparse search columns: one table a search type. ``param`` is the parameter's number.
CREATE TABLE fhir_token (
    resource_id            bigint NOT NULL REFERENCES fhir_resource ON DELETE CASCADE,
    param                  smallint NOT NULL,
    system                 text COLLATE "C" NOT NULL,
    code                   text COLLATE "C" NOT NULL,
    PRIMARY KEY (resource_id, param, code, system)
);
CREATE INDEX fhir_token_value ON fhir_token (param, code, resource_id);
CREATE STATISTICS fhir_token_together (mcv, dependencies) ON param, code FROM fhir_token;

CREATE TABLE fhir_reference (
    resource_id            bigint NOT NULL REFERENCES fhir_resource ON DELETE CASCADE,
    param                  smallint NOT NULL,
    target_type            text COLLATE "C" NOT NULL,   -- '' for an absolute URL
    target_id              text COLLATE "C" NOT NULL,
    PRIMARY KEY (resource_id, param, target_type, target_id)
);
CREATE INDEX fhir_reference_value ON fhir_reference (target_id, param, resource_id);

CREATE TABLE fhir_date (
    resource_id            bigint NOT NULL REFERENCES fhir_resource ON DELETE CASCADE,
    param                  smallint NOT NULL,
    low                    timestamptz NOT NULL,
    high                   timestamptz NOT NULL,        -- exclusive; 'infinity' for an open period
    PRIMARY KEY (resource_id, param, low)
);
CREATE INDEX fhir_date_low ON fhir_date (param, low, resource_id);

CREATE TABLE fhir_string (
    resource_id            bigint NOT NULL REFERENCES fhir_resource ON DELETE CASCADE,
    param                  smallint NOT NULL,
    value                  text COLLATE "C" NOT NULL,
    folded                 text COLLATE "C" NOT NULL,   -- without case and accents
    PRIMARY KEY (resource_id, param, value)
);
CREATE INDEX fhir_string_value ON fhir_string (param, folded, resource_id);

-- Keys and secrets of the API, made once (cursor signing, token signing).
CREATE TABLE fhir_key (
    name                   text PRIMARY KEY,
    secret                 bytea NOT NULL,
    created_at             timestamptz NOT NULL DEFAULT now()
);
"""


def upgrade() -> None:
    """Create the FHIR tables."""
    op.execute(_SCHEMA)
