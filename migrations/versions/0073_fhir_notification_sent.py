"""FHIR: notifications that were received are found by when, to be forgotten.

Revision ID: 0073
"""

from __future__ import annotations

from alembic import op

from migrations.rewriting import take_alone

revision = "0073"
down_revision: str | None = "0072"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add the index."""
    take_alone("fhir_notification")
    op.execute("CREATE INDEX fhir_notification_sent ON fhir_notification (sent_at) WHERE state = 'sent'")
