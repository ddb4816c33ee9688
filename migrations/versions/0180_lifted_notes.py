"""Rejection notes that came by mistake are lifted; what they took back comes again under new UIDs.

Notes that were followed before this migration cannot be lifted: what they took back was not written down.

Revision ID: 0180
"""

from __future__ import annotations

from alembic import op

from migrations.rewriting import take_alone

revision = "0180"
down_revision: str | None = "0170"
branch_labels: str | None = None
depends_on: str | None = None

_SCHEMA = """
ALTER TABLE rejection_note ADD COLUMN lifted_at timestamptz;
ALTER TABLE rejection_note ADD COLUMN lifted_by text NOT NULL DEFAULT '';
-- Set with withdrawn_at: the photograph, taken back itself or its result; and that result's Observation.
ALTER TABLE rejected_instance ADD COLUMN instance_id bigint REFERENCES instance;
ALTER TABLE rejected_instance ADD COLUMN observation_id text;
CREATE INDEX rejected_instance_note ON rejected_instance (note_id);
CREATE INDEX rejected_instance_result ON rejected_instance (observation_id) WHERE observation_id IS NOT NULL;

-- Results that notes took back and nobody else did: these alone come again.
CREATE TABLE note_withdrawal (
    observation_id         text PRIMARY KEY,
    instance_id            bigint NOT NULL REFERENCES instance,
    is_lifted              boolean NOT NULL DEFAULT false  -- to be issued again by the next report
);
CREATE INDEX note_withdrawal_instance ON note_withdrawal (instance_id);

-- A new version has results of new UIDs, also where its bytes are those of before.
DROP TRIGGER instance_is_held_again ON instance;
CREATE TRIGGER instance_is_held_again AFTER UPDATE OF version ON instance
    FOR EACH ROW WHEN (OLD.version IS DISTINCT FROM NEW.version) EXECUTE FUNCTION hold_again();
"""


def upgrade() -> None:
    """Create them."""
    take_alone("instance", "rejection_note", "rejected_instance")
    op.execute(_SCHEMA)
