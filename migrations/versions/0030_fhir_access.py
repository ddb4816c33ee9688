"""FHIR API: used client assertions, exports.

Revision ID: 0030
"""

from __future__ import annotations

from alembic import op

revision = "0030"
down_revision: str | None = "0002"
branch_labels: str | None = None
depends_on: str | None = None

_SCHEMA = """
-- Client assertions already used (replay protection, RFC 7523 section 3); rows live as long as the assertion.
CREATE TABLE fhir_used_assertion (
    client_id              text NOT NULL,
    jti                    text NOT NULL,
    expires_at             timestamptz NOT NULL,
    PRIMARY KEY (client_id, jti)
);
CREATE INDEX fhir_used_assertion_expiry ON fhir_used_assertion (expires_at);

-- Bulk Data exports: what was asked and as of when; files are read from the resources when fetched.
CREATE TABLE fhir_export (
    export_id              uuid PRIMARY KEY,
    client_id              text NOT NULL,
    request_url            text NOT NULL,
    request                jsonb NOT NULL,
    transaction_time       timestamptz NOT NULL,
    files                  jsonb,
    created_at             timestamptz NOT NULL DEFAULT now(),
    expires_at             timestamptz NOT NULL
);
"""


def upgrade() -> None:
    """Create the tables."""
    op.execute(_SCHEMA)
