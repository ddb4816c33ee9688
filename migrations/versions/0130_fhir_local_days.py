"""FHIR: a day without a zone is a day of the server's zone.

Such a day may have 25 hours. The zone that dates were last laid out by is kept, so that a server with another
one lays them out anew.

Revision ID: 0130
"""

from __future__ import annotations

from alembic import op

revision = "0130"
down_revision: str | None = "0101"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Allow days of up to two days of 24 hours; note that all dates so far were laid out by UTC."""
    op.execute("ALTER TABLE fhir_observation DROP CONSTRAINT fhir_observation_check")
    op.execute(
        "ALTER TABLE fhir_observation ADD CONSTRAINT fhir_observation_check"
        " CHECK (effective_high > effective AND effective_high <= effective + interval '48 hours') NOT VALID"
    )
    op.execute("ALTER TABLE fhir_observation VALIDATE CONSTRAINT fhir_observation_check")
    op.execute(
        "CREATE TABLE fhir_zone (only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),"
        " name text NOT NULL)"
    )
    op.execute("INSERT INTO fhir_zone (name) VALUES ('UTC')")
