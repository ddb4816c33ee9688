"""Pictures on their way from the appraisal to the results.

The appraisal draws a picture and encodes it once; the reporting step puts the same bytes into the Secondary
Capture, which from then on is where they are kept. In between they wait here, written and removed in the
transactions of the two steps.

Revision ID: 0090
"""

from __future__ import annotations

from alembic import op

revision = "0090"
down_revision: str | None = "0131"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Make the table; its pictures are compressed already."""
    op.execute(
        """
CREATE TABLE pending_picture (
    appraisal_id  uuid NOT NULL REFERENCES appraisal ON DELETE CASCADE,
    encoding      text NOT NULL,
    picture       bytea NOT NULL,
    PRIMARY KEY (appraisal_id, encoding)
)
"""
    )
    op.execute("ALTER TABLE pending_picture ALTER COLUMN picture SET STORAGE EXTERNAL")
