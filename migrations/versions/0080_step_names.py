"""Steps have names that are chosen, not the paths of the modules that do them.

Revision ID: 0080
"""

from __future__ import annotations

from alembic import op

revision = "0080"
down_revision: str | None = "0076"
branch_labels: str | None = None
depends_on: str | None = None

_NAMES = {
    "service.tasks.appraise": "appraise",
    "reporting.tasks.report": "report",
    "dicom_node.tasks.deliver": "deliver",
    "reporting.notifications.notify": "notify",
    "reporting.tasks.report_study": "report-study",
}


def upgrade() -> None:
    """Rewrite the names that messages and dead letters hold."""
    for former, name in _NAMES.items():
        op.execute(f"UPDATE outbox SET task = '{name}' WHERE task = '{former}'")  # noqa: S608 -- names of ours
        op.execute(f"UPDATE dead_letter SET step = '{name}' WHERE step = '{former}'")  # noqa: S608
