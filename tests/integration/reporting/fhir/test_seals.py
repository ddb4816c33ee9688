"""What a claim rests on, changed by somebody who owns the database: each change is named."""

from __future__ import annotations

import json
from datetime import UTC
from typing import Any

import psycopg
import pytest

from reporting.fhir.http import Api
from service.audit.trail import Fault, seal_pending, verify
from service.database.pool import transaction
from service.database.sealing.chain import GENESIS, chained
from tests.integration.reporting.fhir.conftest import Client, Save, appraised, keep_appraisal
from tests.seals import ANOTHER, EXEMPT, UNSEALED, columns_of, tampered, unnoticed

TABLES = (
    "appraisal", "audit_message", "delivery", "fhir_history", "fhir_resource", "fhir_template",
    "former_rating", "instance", "instance_version", "ledger",
)  # fmt: skip


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


def named(chain: Api, *statements: str, as_superuser: bool = True) -> list[Fault]:
    """What is found after some statements, which are then taken back."""
    return tampered(chain.settings.database_url, *statements, as_superuser=as_superuser)


def look(api: Api) -> tuple[Fault, ...]:
    with transaction(api.pool) as connection:
        return verify(connection).faults


@pytest.mark.parametrize("table", TABLES)
def test_a_change_of_any_sealed_column_is_named(chain: Api, table: str) -> None:
    assert unnoticed(chain.settings.database_url, table) == []


@pytest.mark.parametrize("table", TABLES)
def test_rows_taken_out_or_put_in_are_named(chain: Api, table: str) -> None:
    assert named(chain, f"DELETE FROM {table}")  # noqa: S608 - names of ours
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
    changed = {key: ANOTHER[columns[key]].format(key)} | {
        each: ANOTHER[columns[each]].format(each) for each in unique
    }
    names = ", ".join(columns)
    values = ", ".join(changed.get(column, column) for column in columns)
    into = f"INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE"
    found = named(chain, f"{into} SELECT {values} FROM {table} LIMIT 1")  # noqa: S608 - names of ours
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
    assert named(chain, statement, as_superuser=False)


def test_a_version_made_up_leaves_the_one_before_missing(chain: Api) -> None:
    statement = "UPDATE fhir_resource SET version_id = version_id + 1, body = '{}' WHERE type = 'Observation'"
    assert "deleted" in {fault.what for fault in named(chain, statement, as_superuser=False)}
    statement = "UPDATE appraisal SET calibration = 'of nobody', rating = 7"
    assert "deleted" in {fault.what for fault in named(chain, statement, as_superuser=False)}


def test_an_event_that_hides_under_another_type_is_named(chain: Api) -> None:
    assert named(chain, "UPDATE fhir_resource SET type = 'Basic' WHERE type = 'AuditEvent'")


def test_text_of_a_forged_template_is_named(chain: Api) -> None:
    forge = (
        "INSERT INTO fhir_template (digest, text) SELECT '\\x00', replace(text, 'final', 'amended')"
        " FROM fhir_template ORDER BY number LIMIT 1"
    )
    point = "UPDATE fhir_resource SET template_id = (SELECT max(number) FROM fhir_template)"
    assert named(chain, forge, f"{point} WHERE template_id IS NOT NULL")


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
    assert named(chain, "UPDATE ledger SET at = now() WHERE sop_instance_uid = '1.2.9'")


def test_a_row_without_its_seal_for_long_is_a_fault(chain: Api, client: Client) -> None:
    client.get("Observation")
    assert look(chain) == ()
    (fault,) = named(chain, "UPDATE seal_pending SET since = since - interval '11 minutes'")
    assert "does the relay run" in fault.what


def test_seals_of_the_form_before_hold(chain: Api) -> None:
    """Rows sealed before PostgreSQL wrote their content, as JSON of the program's, are still looked at."""
    with psycopg.connect(chain.settings.database_url, row_factory=psycopg.rows.dict_row) as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute("DELETE FROM seal WHERE source IN ('ledger', 'audit')")
        connection.execute("DELETE FROM seal WHERE source = 'resource'")
        connection.execute("DELETE FROM seal")
        digest = GENESIS
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
            digest = chained(digest, text.encode())
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
    assert named(chain, 'UPDATE ledger SET detail = \'{"forged": "x"}\' WHERE ledger_id = 1')
    forged = f"UPDATE ledger SET detail = to_jsonb({'9' * 5001}) WHERE ledger_id = 1"  # noqa: S608
    assert named(chain, forged)
    assert named(chain, "UPDATE ledger SET at = 'infinity' WHERE ledger_id = 1")
    assert named(chain, "UPDATE audit_message SET outcome = 3 WHERE audit_id = 1")
    assert named(chain, "UPDATE fhir_resource SET type = 'Basic' WHERE type = 'AuditEvent'")


def moment(at: Any) -> str:
    return str(at.astimezone(UTC).isoformat(timespec="microseconds"))
