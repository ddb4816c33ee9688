"""Cohorts that are kept under an id, so that no address says what is charted; indexes of who did what.

Revision ID: 0220
"""

from __future__ import annotations

from alembic import op

from migrations.rewriting import take_alone

revision = "0220"
down_revision: str | None = "0210"
branch_labels: str | None = None
depends_on: str | None = None

_SCHEMA = """
CREATE TABLE web_cohort (
    cohort_id uuid PRIMARY KEY,
    title text NOT NULL,
    selection jsonb NOT NULL,
    author text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX web_cohort_created ON web_cohort (created_at DESC);

-- What there is to choose from: each value is found without reading all rows that have it.
CREATE INDEX outcome_state_site ON outcome_state (site);
CREATE INDEX outcome_state_surgeon ON outcome_state (surgeon);
CREATE INDEX outcome_state_code ON outcome_state (procedure_code);
CREATE INDEX procedure_case_phenotype ON procedure_case (phenotype);

-- Who did what on pages and by command; few lines of the ledger say it.
CREATE INDEX ledger_by ON ledger ((detail ->> 'by'), ledger_id) WHERE detail ? 'by';
CREATE INDEX ledger_at ON ledger USING brin (at);
"""


def upgrade() -> None:
    """Add a table, and indexes to tables that may be large."""
    take_alone("ledger", "outcome_state", "procedure_case")
    op.execute(_SCHEMA)
