"""Results are rated anew when a calibration is; what they were rated before is kept.

Revision ID: 0170
"""

from __future__ import annotations

from alembic import op

from migrations.rewriting import take_alone

revision = "0170"
down_revision: str | None = "0161"
branch_labels: str | None = None
depends_on: str | None = None

_SCHEMA = """
-- By which calibration new photographs are rated, for each method, weights and settings.
CREATE TABLE calibration_in_force (
    phase                  text COLLATE "C" PRIMARY KEY,   -- digest of method, weights and settings
    method_name            text NOT NULL,
    method_version         text NOT NULL,
    normaliser             text NOT NULL,
    comparator             text NOT NULL,
    weights_sha256         text NOT NULL,
    config_sha256          text NOT NULL,
    calibration            text COLLATE "C" NOT NULL,
    begun_at               timestamptz NOT NULL DEFAULT now(),
    looked_to              bigint NOT NULL DEFAULT 0,      -- photographs up to this one were looked at
    look_to                bigint NOT NULL                 -- and are to be up to this one
);

-- Results to be rated by another calibration; done when their Observations say so.
CREATE TABLE rerating (
    appraisal_id           uuid NOT NULL REFERENCES appraisal,
    calibration            text COLLATE "C" NOT NULL,
    requested_at           timestamptz NOT NULL DEFAULT now(),
    asked_at               timestamptz,
    done_at                timestamptz,
    attempts               integer NOT NULL DEFAULT 0,
    error                  text NOT NULL DEFAULT '',
    PRIMARY KEY (appraisal_id, calibration)
);
CREATE INDEX rerating_open ON rerating (asked_at NULLS FIRST, appraisal_id) WHERE done_at IS NULL;

-- What a result was rated before, by each calibration; the first of them is what was issued first.
CREATE TABLE former_rating (
    former_rating_id       bigint GENERATED ALWAYS AS IDENTITY,
    appraisal_id           uuid NOT NULL REFERENCES appraisal,
    calibration            text COLLATE "C" NOT NULL,
    rating                 double precision,
    percentile             double precision,
    regions                jsonb NOT NULL,
    replaced_at            timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (appraisal_id, calibration)
);
CREATE FUNCTION former_rating_stays() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'former_rating is append-only'; END $$;
CREATE TRIGGER former_rating_append_only BEFORE UPDATE OR DELETE ON former_rating
    FOR EACH ROW EXECUTE FUNCTION former_rating_stays();
CREATE TRIGGER former_rating_no_truncate BEFORE TRUNCATE ON former_rating
    FOR EACH STATEMENT EXECUTE FUNCTION former_rating_stays();
"""


def upgrade() -> None:
    """Create the tables."""
    take_alone("appraisal")
    op.execute(_SCHEMA)
