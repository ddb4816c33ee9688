"""Outcomes: a funnel is read in the index alone, the case of each change among it.

Revision ID: 0161
"""

from __future__ import annotations

from alembic import op

from migrations.rewriting import take_alone

revision = "0161"
down_revision: str | None = "0160"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Make the index anew."""
    take_alone("outcome_change")
    op.execute("DROP INDEX outcome_change_charted")
    op.execute(
        "CREATE INDEX outcome_change_charted ON outcome_change"
        " (region, procedure_code, window_name, phase, performed_on)"
        " INCLUDE (change_id, case_id, site, surgeon, change, verdict, valid)"
    )
