"""What a claim rests on, changed by somebody who owns the database: each change is named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC
from typing import Any

import psycopg
import pytest
from psycopg import sql

from reporting.fhir.http import Api
from service.audit.trail import Fault, seal_pending, verify
from service.database import seals
from service.database.pool import Connection, transaction
from tests.integration.reporting.fhir.conftest import Client, Save, appraised, keep_appraisal

# Columns of sealed tables that change by right or follow from others, each with the reason.
UNSEALED: Mapping[str, Mapping[str, str]] = {
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
}
_BROKEN = "written again from the sealed tables"
_WORK = "work under way; its ends are lines of the ledger"
_OUTCOMES = "append-only by trigger; not sealed yet"
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
        _BROKEN,
    ),
    **dict.fromkeys(
        ("access_reason", "annotation", "expected", "outcome_change", "outcome_validity", "outcome_window",
         "pairing_conflict", "pairing_decision", "phase", "photograph_role", "procedure_case", "risk_model",
         "signal", "signal_acknowledgement"),
        _OUTCOMES,
    ),
}  # fmt: skip


@pytest.fixture
def chain(api: Api, client: Client, save_photograph: Save) -> Api:
    """A database in which every sealed table has rows, all of them sealed."""
    save_photograph(1)
    save_photograph(1, score=1.0)  # amended: the version before is history
    client.get("Observation")
    saved = appraised()
    with transaction(api.pool) as connection:
        keep_appraisal(connection, saved)
        row = connection.execute("SELECT instance_id, appraisal_id, calibration FROM appraisal").fetchone()
        assert row is not None
        connection.execute(
            "INSERT INTO former_rating (appraisal_id, calibration, rating, percentile, regions)"
            " SELECT appraisal_id, calibration, rating, percentile, regions FROM appraisal"
        )
        connection.execute("UPDATE appraisal SET calibration = 'of the site', rating = 3")
        connection.execute(
            "INSERT INTO delivery (instance_id, appraisal_id, destination, sop_class_uid, sop_instance_uid,"
            " sha256) VALUES (%s, %s, 'pacs', '1.2', '1.3', 'ab')",
            (row["instance_id"], row["appraisal_id"]),
        )
        connection.execute(
            "INSERT INTO instance_version (instance_id, version, sha256, size_bytes, transfer_syntax_uid,"
            " study_instance_uid, series_instance_uid, patient_id, issuer_of_patient_id)"
            " SELECT instance_id, version, sha256, size_bytes, transfer_syntax_uid, study_instance_uid,"
            " series_instance_uid, patient_id, issuer_of_patient_id FROM instance"
        )
        connection.execute("UPDATE instance SET version = version + 1, patient_id = 'Q'")
    seal_pending(api.pool, api.settings)
    seal_pending(api.pool, api.settings)
    assert look(api) == ()
    return api


def look(api: Api) -> tuple[Fault, ...]:
    with transaction(api.pool) as connection:
        return verify(connection).faults


def tampered(api: Api, *statements: str | sql.Composed, as_superuser: bool = True) -> list[Fault]:
    """What is found after some statements, which are then taken back."""
    with psycopg.connect(api.settings.database_url, row_factory=psycopg.rows.dict_row) as connection:
        if as_superuser:
            connection.execute("SET LOCAL session_replication_role = replica")  # no triggers, no foreign keys
        for statement in statements:
            connection.execute(statement.encode() if isinstance(statement, str) else statement)
        found = verify(connection).faults
        connection.rollback()
    return list(found)


_ANOTHER = {
    "text": "coalesce({0}, '') || 'x'",
    "uuid": "gen_random_uuid()",
    "integer": "{0} + 1000",
    "smallint": "{0} + 1",
    "bigint": "{0} + 1000",
    "double precision": "coalesce({0}, 0) + 0.001",
    "timestamp with time zone": "{0} + interval '1 microsecond'",
    "jsonb": "'{{\"forged\": 1}}'",
    "ARRAY": "array_append({0}, 'x')",
}


def columns_of(connection: Connection, table: str) -> dict[str, str]:
    rows = connection.execute(
        "SELECT column_name, data_type FROM information_schema.columns"
        " WHERE table_schema = 'public' AND table_name = %s",
        (table,),
    )
    return {row["column_name"]: row["data_type"] for row in rows}


@pytest.mark.parametrize("table", UNSEALED)
def test_a_change_of_any_sealed_column_is_named(chain: Api, table: str) -> None:
    with transaction(chain.pool) as connection:
        columns = columns_of(connection, table)
        assert connection.execute(f"SELECT FROM {table}".encode()).rowcount > 0
    assert set(UNSEALED[table]) <= set(columns)
    for column, kind in columns.items():
        if column not in UNSEALED[table]:
            name = sql.Identifier(column).as_string(None)
            free = f"ALTER TABLE {table} ALTER COLUMN {name} DROP IDENTITY IF EXISTS"
            change = f"UPDATE {table} SET {name} = {_ANOTHER[kind].format(name)}"  # noqa: S608 - names of ours
            assert tampered(chain, free, change), f"{table}.{column} was changed, and nobody saw it"


@pytest.mark.parametrize("table", UNSEALED)
def test_rows_taken_out_or_put_in_are_named(chain: Api, table: str) -> None:
    assert tampered(chain, f"DELETE FROM {table}")  # noqa: S608 - names of ours
    if table == "fhir_template":
        return  # one that nothing is made of says nothing
    with transaction(chain.pool) as connection:
        columns = columns_of(connection, table)
    key = {"appraisal": "appraisal_id", "former_rating": "calibration", "fhir_resource": "resource_id",
           "fhir_history": "version_id", "instance": "instance_id", "instance_version": "version",
           "ledger": "ledger_id", "audit_message": "audit_id", "delivery": "delivery_id"}[table]  # fmt: skip
    unique = (
        {"id", "sop_instance_uid"} & set(columns)
        if table in ("fhir_resource", "instance", "delivery")
        else set()
    )
    changed = {key: _ANOTHER[columns[key]].format(key)} | {
        each: _ANOTHER[columns[each]].format(each) for each in unique
    }
    names = ", ".join(columns)
    values = ", ".join(changed.get(column, column) for column in columns)
    into = f"INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE"
    found = tampered(chain, f"{into} SELECT {values} FROM {table} LIMIT 1")  # noqa: S608 - names of ours
    assert "never sealed" in {fault.what for fault in found}


def test_every_table_is_sealed_or_exempt_with_a_reason(chain: Api) -> None:
    with transaction(chain.pool) as connection:
        rows = connection.execute(
            "SELECT table_name FROM information_schema.tables"
            " WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
        ).fetchall()
    assert {row["table_name"] for row in rows} == set(UNSEALED) | set(EXEMPT)
    assert not set(UNSEALED) & set(EXEMPT)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE appraisal SET score = -score",
        "UPDATE appraisal SET rating = 6.9",
        "UPDATE fhir_resource SET body = body || ' ' WHERE type = 'Observation'",
        "UPDATE instance SET patient_id = 'somebody else'",
        "DELETE FROM delivery",
    ],
)
def test_a_change_with_all_triggers_at_work_is_named_too(chain: Api, statement: str) -> None:
    assert tampered(chain, statement, as_superuser=False)


def test_a_version_made_up_leaves_the_one_before_missing(chain: Api) -> None:
    statement = "UPDATE fhir_resource SET version_id = version_id + 1, body = '{}' WHERE type = 'Observation'"
    assert "deleted" in {fault.what for fault in tampered(chain, statement, as_superuser=False)}
    statement = "UPDATE appraisal SET calibration = 'of nobody', rating = 7"
    assert "deleted" in {fault.what for fault in tampered(chain, statement, as_superuser=False)}


def test_an_event_that_hides_under_another_type_is_named(chain: Api) -> None:
    assert tampered(chain, "UPDATE fhir_resource SET type = 'Basic' WHERE type = 'AuditEvent'")


def test_text_of_a_forged_template_is_named(chain: Api) -> None:
    forge = (
        "INSERT INTO fhir_template (digest, text) SELECT '\\x00', replace(text, 'final', 'amended')"
        " FROM fhir_template ORDER BY number LIMIT 1"
    )
    point = "UPDATE fhir_resource SET template_id = (SELECT max(number) FROM fhir_template)"
    assert tampered(chain, forge, f"{point} WHERE template_id IS NOT NULL")


@pytest.mark.parametrize(
    "line",
    [
        "('1.2.9', 'received', 'infinity', '{}')",
        "('1.2.9', 'received', '20000-01-01', '{}')",
        "('1.2.9', 'received', '4000-01-01 BC', '{}')",
        f"('1.2.9', 'received', now(), '{{\"n\": {'9' * 5001}}}')",
        f"('1.2.9', 'received', now(), '{'[' * 1500}{']' * 1500}')",
    ],
)
def test_a_line_that_no_program_can_tell_is_sealed_and_reported(chain: Api, line: str) -> None:
    with transaction(chain.pool) as connection:
        into = "INSERT INTO ledger (sop_instance_uid, event, at, detail) VALUES "
        connection.execute((into + line).encode())
    seal_pending(chain.pool, chain.settings)
    seal_pending(chain.pool, chain.settings)
    with transaction(chain.pool) as connection:
        verdict = verify(connection)
        said = connection.execute(
            "SELECT message FROM audit_message ORDER BY audit_id DESC LIMIT 1"
        ).fetchone()
    assert (verdict.waiting, verdict.faults) == (0, ())
    assert said is not None
    assert "no audit message can be made of it" in said["message"]
    assert tampered(chain, "UPDATE ledger SET at = now() WHERE sop_instance_uid = '1.2.9'")


def test_a_row_without_its_seal_for_long_is_a_fault(chain: Api, client: Client) -> None:
    client.get("Observation")
    assert look(chain) == ()
    (fault,) = tampered(chain, "UPDATE seal_pending SET since = since - interval '11 minutes'")
    assert "does the relay run" in fault.what


def test_seals_of_the_form_before_hold(chain: Api) -> None:
    """Rows sealed before PostgreSQL wrote their content, as JSON of the program's, are still looked at."""
    with psycopg.connect(chain.settings.database_url, row_factory=psycopg.rows.dict_row) as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute("DELETE FROM seal WHERE source IN ('ledger', 'audit')")
        connection.execute("DELETE FROM seal WHERE source = 'resource'")
        connection.execute("DELETE FROM seal")
        digest = seals.GENESIS
        lines = connection.execute("SELECT * FROM ledger ORDER BY ledger_id").fetchall()
        messages = connection.execute("SELECT * FROM audit_message ORDER BY audit_id").fetchall()
        events = connection.execute("SELECT * FROM fhir_resource WHERE type = 'AuditEvent'").fetchall()
        rows: list[tuple[str, int, list[Any]]] = [
            ("ledger", row["ledger_id"], [row["ledger_id"], row["instance_id"], row["sop_instance_uid"],
             row["event"], moment(row["at"]), row["detail"]]) for row in lines
        ]  # fmt: skip
        rows += [
            ("audit", row["audit_id"], [row["audit_id"], row["event_id"], row["outcome"], moment(row["at"]),
             row["message"]]) for row in messages
        ]  # fmt: skip
        rows += [("fhir", row["resource_id"], [row["resource_id"], row["body"]]) for row in events]
        for position, (source, row_id, values) in enumerate(rows, 1):
            text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            digest = seals.chained(digest, text.encode())
            connection.execute(
                "INSERT INTO seal (position, source, row_id, digest, form) VALUES (%s, %s, %s, %s, 1)",
                (position, source, row_id, digest),
            )
        connection.execute(
            "INSERT INTO seal_pending (source, row_id, row_key) SELECT 'instance', instance_id, version::text"
            " FROM instance UNION ALL SELECT 'instance', instance_id, version::text FROM instance_version"
            " UNION ALL SELECT 'appraisal', instance_id, appraisal_id || ' ' || calibration FROM appraisal"
            " UNION ALL SELECT 'appraisal', a.instance_id, f.appraisal_id || ' ' || f.calibration"
            " FROM former_rating f JOIN appraisal a USING (appraisal_id)"
            " UNION ALL SELECT 'delivery', delivery_id, '' FROM delivery"
            " UNION ALL SELECT 'resource', resource_id, version_id::text FROM fhir_resource"
            " WHERE type <> 'AuditEvent' UNION ALL SELECT 'resource', r.resource_id, h.version_id::text"
            " FROM fhir_history h JOIN fhir_resource r USING (type, id)"
        )
        assert verify(connection).faults == ()
        connection.commit()
    assert {source for source, _, _ in rows} == {"ledger", "audit", "fhir"}
    assert tampered(chain, 'UPDATE ledger SET detail = \'{"forged": "x"}\' WHERE ledger_id = 1')
    long = "9" * 5001
    assert tampered(chain, f"UPDATE ledger SET detail = to_jsonb({long}) WHERE ledger_id = 1")  # noqa: S608
    assert tampered(chain, "UPDATE ledger SET at = 'infinity' WHERE ledger_id = 1")
    assert tampered(chain, "UPDATE audit_message SET outcome = 3 WHERE audit_id = 1")
    assert tampered(chain, "UPDATE fhir_resource SET type = 'Basic' WHERE type = 'AuditEvent'")


def moment(at: Any) -> str:
    return str(at.astimezone(UTC).isoformat(timespec="microseconds"))
