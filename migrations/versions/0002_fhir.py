"""FHIR resources: the exact bytes served beside typed search columns; history insert-only.

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
    type                   text NOT NULL,
    id                     text NOT NULL,
    version_id             integer NOT NULL,
    last_updated           timestamptz NOT NULL,
    body                   text NOT NULL,
    UNIQUE (type, id)
);
CREATE INDEX fhir_resource_updated ON fhir_resource (type, last_updated, resource_id);

CREATE TABLE fhir_history (
    type                   text NOT NULL,
    id                     text NOT NULL,
    version_id             integer NOT NULL,
    last_updated           timestamptz NOT NULL,
    body                   text NOT NULL,
    PRIMARY KEY (type, id, version_id)
);

-- Search columns of Observation, one row a resource.
CREATE TABLE fhir_observation (
    resource_id            bigint PRIMARY KEY REFERENCES fhir_resource ON DELETE CASCADE,
    patient                text NOT NULL,
    code_system            text NOT NULL,
    code                   text NOT NULL,
    status                 text NOT NULL,
    effective              timestamptz NOT NULL,
    value                  numeric
);
CREATE INDEX fhir_observation_patient_code ON fhir_observation (patient, code, effective DESC, resource_id DESC);
CREATE INDEX fhir_observation_effective ON fhir_observation (effective DESC, resource_id DESC);
"""


def upgrade() -> None:
    """Create the FHIR tables."""
    op.execute(_SCHEMA)
