"""Rejection notes (IHE IOCM): who took which photographs back, also those that had not come yet.

Revision ID: 0160
"""

from __future__ import annotations

from alembic import op

from migrations.rewriting import take_alone

revision = "0160"
down_revision: str | None = "0110"
branch_labels: str | None = None
depends_on: str | None = None

_SCHEMA = """
CREATE TABLE rejection_note (
    note_id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sop_instance_uid       text NOT NULL UNIQUE,
    sha256                 text NOT NULL,
    size_bytes             bigint NOT NULL,
    title                  text NOT NULL,           -- code of its title, DCM
    patient_id             text NOT NULL,
    issuer_of_patient_id   text NOT NULL,
    calling_ae_title       text NOT NULL,
    peer_address           text NOT NULL,
    received_at            timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE rejected_instance (
    sop_instance_uid       text NOT NULL,
    note_id                bigint NOT NULL REFERENCES rejection_note,
    sop_class_uid          text NOT NULL,
    study_instance_uid     text NOT NULL,
    withdrawn_at           timestamptz,             -- NULL: it had not come
    PRIMARY KEY (sop_instance_uid, note_id)
);

-- Have instances found and retrieved no more. What stays of their studies is indexed anew: of a study and a
-- series, what their first instance says counts. The lock keeps the indexer from adding to them meanwhile.
CREATE FUNCTION hide_held(uids text[]) RETURNS void LANGUAGE plpgsql AS
    $$ DECLARE touched record; BEGIN
        PERFORM pg_advisory_xact_lock(1212501060);
        DELETE FROM held_pending WHERE sop_instance_uid = ANY(uids);
        FOR touched IN
            SELECT DISTINCT study_instance_uid AS study, patient FROM held_instance
            WHERE sop_instance_uid = ANY(uids) ORDER BY 1, 2
        LOOP
            INSERT INTO held_pending (sop_instance_uid, sha256, instance_id, is_result)
                SELECT sop_instance_uid, sha256, instance_id, is_result FROM held_instance
                WHERE study_instance_uid = touched.study AND patient = touched.patient
                AND NOT sop_instance_uid = ANY(uids) ON CONFLICT DO NOTHING;
            DELETE FROM held_instance
                WHERE study_instance_uid = touched.study AND patient = touched.patient;
            DELETE FROM held_series WHERE study_instance_uid = touched.study AND patient = touched.patient;
            DELETE FROM held_study WHERE study_instance_uid = touched.study AND patient = touched.patient;
        END LOOP;
    END $$;

CREATE FUNCTION hide_withdrawn() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN
        PERFORM hide_held(ARRAY(
            SELECT sop_instance_uid FROM held_instance WHERE instance_id = NEW.instance_id
            UNION SELECT sop_instance_uid FROM held_pending WHERE instance_id = NEW.instance_id));
        RETURN NULL;
    END $$;
CREATE TRIGGER instance_is_hidden AFTER UPDATE OF state ON instance
    FOR EACH ROW WHEN (NEW.state = 'withdrawn' AND OLD.state <> 'withdrawn')
    EXECUTE FUNCTION hide_withdrawn();
"""


def upgrade() -> None:
    """Create them."""
    take_alone("instance")
    op.execute(_SCHEMA)
