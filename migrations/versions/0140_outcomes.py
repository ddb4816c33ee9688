"""Outcomes of surgery: cases, roles of photographs, changes, phases, signals, risk models.

What was decided is append-only. What follows from it (which window of a case has what) is kept beside it
and made anew whenever a photograph or a case comes.

Revision ID: 0140
"""

from __future__ import annotations

from alembic import op

from migrations.rewriting import take_alone

revision = "0140"
down_revision: str | None = "0100"
branch_labels: str | None = None
depends_on: str | None = None

_DECIDED = """
-- A version of an operation is a row; the newest counts.
CREATE TABLE procedure_case (
    case_id                uuid NOT NULL,
    version                integer NOT NULL CHECK (version > 0),
    source                 text NOT NULL CHECK (source IN ('ehr', 'csv', 'manual')),
    reason                 text NOT NULL,
    author                 text NOT NULL,
    patient                text COLLATE "C" NOT NULL,   -- logical id of the Patient
    procedure_id           text COLLATE "C" NOT NULL,   -- logical id of the Procedure; '' when there is none
    code_system            text NOT NULL,
    code                   text COLLATE "C" NOT NULL,
    performed_on           date NOT NULL,
    born_on                date,
    phenotype              text NOT NULL,
    syndrome               boolean,
    laterality             text CHECK (laterality IN ('left', 'right', 'bilateral', 'midline')),
    site                   text NOT NULL,
    surgeon                text NOT NULL,
    severity_before        double precision,
    consent                boolean NOT NULL,
    active                 boolean NOT NULL,
    created_at             timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (case_id, version),
    CHECK (version = 1 OR reason <> '')
);
CREATE INDEX procedure_case_patient ON procedure_case (patient);
CREATE INDEX procedure_case_procedure ON procedure_case (procedure_id) WHERE procedure_id <> '';

-- What pairing needs of a photograph, read from its header once.
CREATE TABLE outcome_photograph (
    instance_id            bigint PRIMARY KEY REFERENCES instance,
    patient                text COLLATE "C" NOT NULL,
    acquired_on            date,
    acquired_at            timestamptz,
    born_on                date,
    site                   text NOT NULL,
    hint                   text CHECK (hint IN ('pre', 'post')),
    hint_source            text NOT NULL,
    noted_at               timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX outcome_photograph_patient ON outcome_photograph (patient);
CREATE INDEX outcome_photograph_acquired ON outcome_photograph (acquired_on, instance_id);

-- Windows of a code ('' for every code without its own); the newest set of a code counts.
CREATE TABLE outcome_window (
    code                   text COLLATE "C" NOT NULL,
    version                integer NOT NULL,
    name                   text NOT NULL,
    role                   text NOT NULL CHECK (role IN ('pre', 'post')),
    anchor                 text NOT NULL CHECK (anchor IN ('procedure', 'birth')),
    target                 double precision NOT NULL,
    earliest               double precision NOT NULL,
    latest                 double precision NOT NULL CHECK (latest >= earliest),
    author                 text NOT NULL,
    reason                 text NOT NULL,
    created_at             timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (code, version, name)
);

-- The newest row of a case's window counts; no instance: none is to be used.
CREATE TABLE photograph_role (
    photograph_role_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    case_id                uuid NOT NULL,
    window_name            text NOT NULL,
    role                   text NOT NULL CHECK (role IN ('pre', 'post')),
    instance_id            bigint REFERENCES instance,
    decided_by             text NOT NULL CHECK (decided_by IN ('rule', 'dicom', 'person')),
    reason                 text NOT NULL,
    author                 text NOT NULL,
    created_at             timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX photograph_role_case ON photograph_role (case_id, window_name, photograph_role_id DESC);

CREATE TABLE pairing_conflict (
    conflict_id            uuid PRIMARY KEY,            -- UUIDv5 of case, kind, window and instances
    case_id                uuid NOT NULL,
    kind                   text NOT NULL,
    window_name            text NOT NULL,               -- '' for a photograph as a whole
    instance_ids           bigint[] NOT NULL,
    detail                 text NOT NULL,
    found_at               timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX pairing_conflict_case ON pairing_conflict (case_id);

CREATE TABLE pairing_decision (
    pairing_decision_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    case_id                uuid NOT NULL,
    window_name            text NOT NULL,
    instance_id            bigint REFERENCES instance,  -- NULL: no photograph of this window is to be used
    reason                 text NOT NULL CHECK (reason <> ''),
    author                 text NOT NULL,
    created_at             timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX pairing_decision_case ON pairing_decision (case_id, window_name, pairing_decision_id DESC);

-- Change of a region between two results, for a case and a window. Everything but its validity stays.
CREATE TABLE outcome_change (
    change_id              uuid NOT NULL,               -- UUIDv5 of both appraisals
    case_id                uuid NOT NULL,
    window_name            text NOT NULL,
    region                 text COLLATE "C" NOT NULL,
    case_version           integer NOT NULL,
    patient                text COLLATE "C" NOT NULL,
    before_appraisal       uuid NOT NULL REFERENCES appraisal,
    after_appraisal        uuid NOT NULL REFERENCES appraisal,
    phase                  text COLLATE "C" NOT NULL,   -- digest of method, weights and settings
    method                 text NOT NULL,               -- its name and version
    procedure_code         text COLLATE "C" NOT NULL,
    performed_on           date NOT NULL,
    followed_on            date NOT NULL,
    site                   text COLLATE "C" NOT NULL,
    surgeon                text COLLATE "C" NOT NULL,
    phenotype              text NOT NULL,
    syndrome               boolean,
    laterality             text,
    age_years              double precision,
    before                 double precision,
    after                  double precision,
    change                 double precision,
    smallest_detectable    double precision,
    verdict                text NOT NULL,
    is_primary             boolean NOT NULL,
    valid                  boolean NOT NULL,
    why_not                text NOT NULL,               -- '' when valid
    created_at             timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (change_id, case_id, window_name, region),
    CHECK (valid = (why_not = ''))
);
CREATE INDEX outcome_change_charted ON outcome_change
    (region, procedure_code, window_name, phase, performed_on)
    INCLUDE (change_id, site, surgeon, change, verdict, valid);
CREATE INDEX outcome_change_case ON outcome_change (case_id, window_name);
CREATE INDEX outcome_change_before ON outcome_change (before_appraisal);
CREATE INDEX outcome_change_after ON outcome_change (after_appraisal);

-- Every change of validity, with when and why.
CREATE TABLE outcome_validity (
    outcome_validity_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    change_id              uuid NOT NULL,
    case_id                uuid NOT NULL,
    window_name            text NOT NULL,
    region                 text NOT NULL,
    valid                  boolean NOT NULL,
    why_not                text NOT NULL,
    at                     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX outcome_validity_change ON outcome_validity (change_id);

-- A phase begins by a change of method, or by a person's word.
CREATE TABLE phase (
    phase_id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    begins_on              date NOT NULL,
    phase                  text COLLATE "C" NOT NULL,   -- digest of the method; '' for every one
    method                 text NOT NULL,
    procedure_code         text COLLATE "C" NOT NULL,   -- '' for every one
    reason                 text NOT NULL CHECK (reason <> ''),
    author                 text NOT NULL,
    created_at             timestamptz NOT NULL DEFAULT now(),
    UNIQUE (begins_on, phase, procedure_code)
);

CREATE TABLE annotation (
    annotation_id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    on_day                 date NOT NULL,
    procedure_code         text NOT NULL,
    note                   text NOT NULL CHECK (note <> ''),
    author                 text NOT NULL,
    created_at             timestamptz NOT NULL DEFAULT now()
);

-- A point of a chart that breaks a rule; with its evidence, once.
CREATE TABLE signal (
    signal_id              uuid PRIMARY KEY,            -- UUIDv5 of chart, rule, point and evidence
    chart                  text NOT NULL,
    subject                text NOT NULL,
    rule                   text NOT NULL,
    label                  text NOT NULL,
    evidence               text[] NOT NULL,
    made_from              jsonb NOT NULL,
    found_at               timestamptz NOT NULL DEFAULT now()
);

-- Somebody saw a signal; beginning a CUSUM anew is one of the things they may then do.
CREATE TABLE signal_acknowledgement (
    signal_acknowledgement_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    signal_id              uuid NOT NULL REFERENCES signal,
    resets_on              date,                        -- the CUSUM begins anew with cases from this day on
    reason                 text NOT NULL CHECK (reason <> ''),
    author                 text NOT NULL,
    created_at             timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX signal_acknowledgement_signal ON signal_acknowledgement (signal_id);

CREATE TABLE risk_model (
    risk_model_id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    procedure_code         text COLLATE "C" NOT NULL,
    window_name            text NOT NULL,
    region                 text COLLATE "C" NOT NULL,
    phase                  text COLLATE "C" NOT NULL,
    version                integer NOT NULL,
    model                  jsonb NOT NULL,
    performance            jsonb NOT NULL,
    data_sha256            text NOT NULL,               -- of the changes it was fitted to
    reason                 text NOT NULL,
    author                 text NOT NULL,
    created_at             timestamptz NOT NULL DEFAULT now(),
    UNIQUE (procedure_code, window_name, region, phase, version)
);

-- What a risk model expects of a change.
CREATE TABLE expected (
    risk_model_id          bigint NOT NULL REFERENCES risk_model,
    change_id              uuid NOT NULL,
    case_id                uuid NOT NULL,
    risk                   double precision NOT NULL CHECK (risk > 0 AND risk < 1),
    change                 double precision NOT NULL,
    PRIMARY KEY (risk_model_id, change_id, case_id)
);

-- Who looked at results by surgeon, and why.
CREATE TABLE access_reason (
    access_reason_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    author                 text NOT NULL,
    what                   text NOT NULL,
    reason                 text NOT NULL CHECK (reason <> ''),
    at                     timestamptz NOT NULL DEFAULT now()
);
"""

_APPEND_ONLY = (
    "procedure_case", "outcome_window", "photograph_role", "pairing_conflict", "pairing_decision",
    "outcome_validity", "phase", "annotation", "signal", "signal_acknowledgement", "risk_model", "expected",
    "access_reason",
)  # fmt: skip

_GUARDS = """
CREATE FUNCTION outcome_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION USING MESSAGE = TG_TABLE_NAME || ' is append-only'; END $$;

-- Of a change only its validity may change, and every time it does is written down; and what a newer
-- version of its case says of the operation.
CREATE FUNCTION outcome_change_stays() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        may text[] := ARRAY['valid', 'why_not'];
    BEGIN
        IF NEW.case_version > OLD.case_version THEN
            may := may || ARRAY['case_version', 'patient', 'procedure_code', 'performed_on', 'site',
                                'surgeon', 'phenotype', 'syndrome', 'laterality', 'age_years'];
        END IF;
        IF to_jsonb(OLD) - may <> to_jsonb(NEW) - may THEN
            RAISE EXCEPTION 'of an outcome_change only its validity changes';
        END IF;
        IF (NEW.valid, NEW.why_not) IS NOT DISTINCT FROM (OLD.valid, OLD.why_not) THEN
            RETURN NEW;
        END IF;
        INSERT INTO outcome_validity (change_id, case_id, window_name, region, valid, why_not)
            VALUES (NEW.change_id, NEW.case_id, NEW.window_name, NEW.region, NEW.valid, NEW.why_not);
        RETURN NEW;
    END $$;
CREATE TRIGGER outcome_change_stays BEFORE UPDATE ON outcome_change
    FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION outcome_change_stays();
CREATE TRIGGER outcome_change_no_delete BEFORE DELETE ON outcome_change
    FOR EACH ROW EXECUTE FUNCTION outcome_is_append_only();
CREATE TRIGGER outcome_change_no_truncate BEFORE TRUNCATE ON outcome_change
    FOR EACH STATEMENT EXECUTE FUNCTION outcome_is_append_only();
"""

_FOLLOWING = """
-- Patients whose pairs are behind what is known of them.
CREATE TABLE outcome_patient (
    outcome_patient_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    patient                text COLLATE "C" NOT NULL UNIQUE,
    revision               bigint NOT NULL DEFAULT 1,
    paired_revision        bigint NOT NULL DEFAULT 0,
    asked_at               timestamptz
);
CREATE INDEX outcome_patient_behind ON outcome_patient (asked_at) WHERE paired_revision < revision;

-- What each window of a case has, for the denominators.
CREATE TABLE outcome_state (
    case_id                uuid NOT NULL,
    window_name            text NOT NULL,
    procedure_code         text COLLATE "C" NOT NULL,
    performed_on           date NOT NULL,
    site                   text COLLATE "C" NOT NULL,
    surgeon                text COLLATE "C" NOT NULL,
    state                  text NOT NULL,
    reason                 text NOT NULL,
    PRIMARY KEY (case_id, window_name)
);
CREATE INDEX outcome_state_counted ON outcome_state
    (procedure_code, window_name, performed_on) INCLUDE (site, surgeon, state, reason);

-- Changes whose Observation is behind.
CREATE TABLE outcome_unpublished (
    outcome_unpublished_id bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    change_id              uuid NOT NULL,
    case_id                uuid NOT NULL,
    window_name            text NOT NULL,
    asked_at               timestamptz,
    PRIMARY KEY (change_id, case_id, window_name)
);
CREATE INDEX outcome_unpublished_asked ON outcome_unpublished (asked_at NULLS FIRST, outcome_unpublished_id);

-- Conflicts that wait for a person.
CREATE TABLE outcome_open_conflict (
    conflict_id            uuid PRIMARY KEY REFERENCES pairing_conflict,
    case_id                uuid NOT NULL
);
CREATE INDEX outcome_open_conflict_case ON outcome_open_conflict (case_id);

-- Of whom something was written. Insert-only for writers, so that they never wait for each other.
CREATE TABLE outcome_touched (
    outcome_touched_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    patient                text COLLATE "C" NOT NULL
);

-- A patient whose Patient, Procedure or (changed) result is written has pairs to be made anew.
CREATE FUNCTION outcome_follows() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO outcome_touched (patient)
            SELECT DISTINCT CASE type WHEN 'Patient' THEN id ELSE patient END FROM added
            WHERE type = 'Patient' AND version_id > 1
               OR patient IS NOT NULL AND (type = 'Procedure' OR type = 'Observation' AND version_id > 1);
        RETURN NULL;
    END $$;
CREATE TRIGGER fhir_resource_outcome_insert AFTER INSERT ON fhir_resource
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION outcome_follows();
CREATE TRIGGER fhir_resource_outcome_update AFTER UPDATE ON fhir_resource
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION outcome_follows();

-- Whoever is found to be another person, or no longer, has pairs to be made anew.
CREATE FUNCTION outcome_follows_person() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP <> 'INSERT' THEN
            INSERT INTO outcome_touched (patient) VALUES (OLD.patient), (OLD.person);
        END IF;
        IF TG_OP <> 'DELETE' THEN
            INSERT INTO outcome_touched (patient) VALUES (NEW.patient), (NEW.person);
        END IF;
        RETURN NULL;
    END $$;
CREATE TRIGGER fhir_person_outcome AFTER INSERT OR UPDATE OR DELETE ON fhir_person
    FOR EACH ROW EXECUTE FUNCTION outcome_follows_person();

-- Photographs to be appraised again by the method in force; what was found before stays.
CREATE TABLE reappraisal (
    instance_id            bigint NOT NULL REFERENCES instance,
    phase                  text COLLATE "C" NOT NULL,   -- digest of method, weights and settings
    requested_at           timestamptz NOT NULL DEFAULT now(),
    asked_at               timestamptz,
    done_at                timestamptz,
    attempts               integer NOT NULL DEFAULT 0,
    error                  text NOT NULL DEFAULT '',
    PRIMARY KEY (instance_id, phase)
);
CREATE INDEX reappraisal_open ON reappraisal (asked_at NULLS FIRST, instance_id) WHERE done_at IS NULL;
"""


def upgrade() -> None:
    """Create the tables, and queue the patients there are."""
    take_alone("fhir_resource", "fhir_person")
    op.execute(_DECIDED)
    op.execute(_GUARDS)
    for table in _APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table}"
            " FOR EACH ROW EXECUTE FUNCTION outcome_is_append_only()"
        )
        op.execute(
            f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION outcome_is_append_only()"
        )
    op.execute(_FOLLOWING)
    op.execute(
        "INSERT INTO outcome_patient (patient) SELECT DISTINCT patient FROM fhir_resource"
        " WHERE type = 'Procedure' AND patient IS NOT NULL ON CONFLICT DO NOTHING"
    )
