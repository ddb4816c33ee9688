"""FHIR: a large export is planned in steps, so that no request waits for all of it.

Revision ID: 0074
"""

from __future__ import annotations

from alembic import op

revision = "0074"
down_revision: str | None = "0073"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add the column."""
    op.execute("ALTER TABLE fhir_export ADD COLUMN plan jsonb")
