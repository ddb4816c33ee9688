"""FHIR: PDFs of reports, by version; the bytes are in the store.

Revision ID: 0131
"""

from __future__ import annotations

from alembic import op

revision = "0131"
down_revision: str | None = "0130"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Make the table."""
    op.execute(
        "CREATE TABLE fhir_presented (report_id text NOT NULL, version_id integer NOT NULL,"
        " sha256 text NOT NULL, made_at timestamptz NOT NULL DEFAULT now(),"
        " PRIMARY KEY (report_id, version_id))"
    )
