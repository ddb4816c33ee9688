"""Tampering as somebody who owns the database; and what is not sealed, with the reasons."""

from __future__ import annotations

from collections.abc import Mapping

import psycopg
from psycopg import sql

from service.audit.trail import Fault, verify
from service.database.pool import Connection

# Columns of sealed tables that change by right or follow from others, each with the reason.
UNSEALED: Mapping[str, Mapping[str, str]] = {
    "access_reason": {},
    "annotation": {},
    "appraisal": {"is_superseded": "follows from the instance's version"},
    "audit_message": {},
    "delivery": {
        "state": "work; its ends are lines of the ledger",
        "attempts": "work",
        "next_attempt_at": "work",
        "claimed_until": "work",
        "last_error": "work; failures are lines of the ledger",
        "delivered_at": "work; a line of the ledger says when",
    },
    "fhir_history": {"patient": "follows from the text and from who is whose"},
    "fhir_resource": {
        "patient": "follows from the text and from who is whose",
        "occurred": "follows from the text",
        "content_sha256": "follows from the text",
    },
    "fhir_template": {"digest": "follows from the text"},
    "former_rating": {"former_rating_id": "an order", "replaced_at": "the Observation's history says when"},
    "instance": {
        "state": "work; its ends are lines of the ledger",
        "attempts": "work",
        "progressed_at": "work",
        "next_attempt_at": "work",
    },
    "instance_version": {"superseded_at": "a line of the ledger says when"},
    "ledger": {},
    "outcome_change": {
        "valid": "each change of it is a row of outcome_validity",
        "why_not": "each change of it is a row of outcome_validity",
        **dict.fromkeys(
            ("patient", "age_years"),
            "follows from the case, which is sealed",
        ),
    },
    "outcome_validity": {},
    "outcome_window": {},
    "pairing_conflict": {},
    "pairing_decision": {},
    "phase": {},
    "photograph_role": {},
    "procedure_case": {},
    "risk_model": {},
    "signal": {},
    "signal_acknowledgement": {},
}  # fmt: skip
_DERIVED = "written again from the sealed tables"
_WORK = "work under way; its ends are lines of the ledger"
EXEMPT: Mapping[str, str] = {
    "alembic_version": "the schema's version",
    "audit_forwarded": "how far a syslog server got",
    "seal": "the chain itself",
    "seal_pending": "what waits for the chain",
    **dict.fromkeys(
        ("calibration_in_force", "commitment_request", "commitment_wanted", "dead_letter",
         "destination_state",
         "fhir_export", "fhir_key", "fhir_notification", "fhir_subscription", "fhir_used_assertion",
         "note_withdrawal", "outbox", "patient_conflict", "pending_picture", "quarantine", "reappraisal",
         "rejected_instance", "rejection_note", "rerating", "study"),
        _WORK,
    ),
    **dict.fromkeys(
        ("fhir_coding", "fhir_date", "fhir_measure", "fhir_observation", "fhir_observed_code",
         "fhir_patient_number", "fhir_person", "fhir_presented", "fhir_reference", "fhir_string",
         "fhir_token",
         "fhir_zone", "held_instance", "held_pending", "held_series", "held_study", "outcome_open_conflict",
         "outcome_patient", "outcome_photograph", "outcome_state", "outcome_touched", "outcome_unpublished"),
        _DERIVED,
    ),
    "web_cohort": "names a selection; what is charted of it is sealed, and that it was made is in the ledger",
    "web_login_failure": "counts tries; each is a line of the ledger",
    "web_purpose": "of a session; each is a line of the ledger",
    "web_session": "ends with its browser; logins are lines of the ledger",
    "web_user": "every change of it is a line of the ledger",
    "expected": "follows from the risk model and the change",
}  # fmt: skip

ANOTHER = {
    "text": "coalesce({0}, '') || 'x'",
    "uuid": "gen_random_uuid()",
    "integer": "coalesce({0}, 0) + 1000",
    "smallint": "{0} + 1",
    "bigint": "coalesce({0}, 0) + 1000",
    "double precision": "coalesce({0}, 0) + 0.001",
    "timestamp with time zone": "{0} + interval '1 microsecond'",
    "jsonb": "'{{\"forged\": 1}}'",
    "_text": "array_append({0}, 'x')",
    "_int8": "array_append({0}, 1)",
    "date": "coalesce({0}, '2000-01-01') + 1",
    "boolean": "NOT coalesce({0}, false)",
}


def columns_of(connection: Connection, table: str) -> dict[str, str]:
    rows = connection.execute(
        "SELECT column_name, CASE data_type WHEN 'ARRAY' THEN udt_name ELSE data_type END AS kind"
        " FROM information_schema.columns WHERE table_schema = 'public' AND table_name = %s",
        (table,),
    )
    return {row["column_name"]: row["kind"] for row in rows}


def tampered(database_url: str, *statements: str, as_superuser: bool = True) -> list[Fault]:
    """What is found after some statements, which are then taken back."""
    with psycopg.connect(database_url, row_factory=psycopg.rows.dict_row) as connection:
        if as_superuser:
            connection.execute("SET LOCAL session_replication_role = replica")  # no triggers, no foreign keys
        for statement in statements:
            connection.execute(statement.encode())
        found = verify(connection).faults
        connection.rollback()
    return list(found)


def unnoticed(database_url: str, table: str) -> list[str]:
    """Columns of a sealed table whose change is not named."""
    with psycopg.connect(database_url, row_factory=psycopg.rows.dict_row) as connection:
        columns = columns_of(connection, table)
        assert connection.execute(f"SELECT FROM {table}".encode()).rowcount > 0
        checks = connection.execute(
            "SELECT conname FROM pg_constraint WHERE contype = 'c' AND conrelid = %s::regclass", (table,)
        ).fetchall()
    assert set(UNSEALED[table]) <= set(columns)
    unbound = [f"ALTER TABLE {table} DROP CONSTRAINT {row['conname']}" for row in checks]
    found = []
    for column, kind in columns.items():
        if column not in UNSEALED[table]:
            name = sql.Identifier(column).as_string(None)
            free = f"ALTER TABLE {table} ALTER COLUMN {name} DROP IDENTITY IF EXISTS"
            change = f"UPDATE {table} SET {name} = {ANOTHER[kind].format(name)}"  # noqa: S608 - names of ours
            if not tampered(database_url, *unbound, free, change):
                found.append(column)
    return found
