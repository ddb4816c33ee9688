"""Operations, pairs, changes, charts' signals and what persons decided on them are sealed.

Revision ID: 0200
"""

from __future__ import annotations

from alembic import op

from migrations.rewriting import take_alone

revision = "0200"
down_revision: str | None = "0190"
branch_labels: str | None = None
depends_on: str | None = None

# Table: number and key of a row.
_ROWS = {
    "access_reason": ("access_reason_id", "''"),
    "annotation": ("annotation_id", "''"),
    "outcome_change": ("outcome_change_id", "''"),
    "outcome_validity": ("outcome_validity_id", "''"),
    "outcome_window": ("0", "code || ' ' || version || ' ' || name"),
    "pairing_conflict": ("0", "conflict_id::text"),
    "pairing_decision": ("pairing_decision_id", "''"),
    "phase": ("phase_id", "''"),
    "photograph_role": ("photograph_role_id", "''"),
    "procedure_case": ("0", "case_id || ' ' || version"),
    "risk_model": ("risk_model_id", "''"),
    "signal": ("0", "signal_id::text"),
    "signal_acknowledgement": ("signal_acknowledgement_id", "''"),
}

_SCHEMA = """
ALTER TABLE outcome_change ADD COLUMN outcome_change_id bigint GENERATED ALWAYS AS IDENTITY;
CREATE UNIQUE INDEX outcome_change_number ON outcome_change (outcome_change_id);
ALTER TABLE seal DROP CONSTRAINT seal_source_check;
"""


def upgrade() -> None:
    """Add triggers, and what waits."""
    take_alone("seal", "seal_pending", *_ROWS)
    op.execute(_SCHEMA)
    for table, (number, key) in _ROWS.items():
        row = f"SELECT '{table}', {number}, {key}"
        into = "INSERT INTO seal_pending (source, row_id, row_key)"
        op.execute(
            f"CREATE FUNCTION {table}_awaits_seal() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN {into} {row} FROM added ON CONFLICT DO NOTHING; RETURN NULL; END $$;"
            f" CREATE TRIGGER {table}_awaits_seal AFTER INSERT ON {table}"
            f" REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION {table}_awaits_seal();"
            f" {into} {row} FROM {table};"
        )
