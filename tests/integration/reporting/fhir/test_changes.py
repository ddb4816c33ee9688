"""Every change in one view: who, when, why, and the values before and after (21 CFR 11.10(e))."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner, Result

from reporting.fhir.http import Api
from reporting.fhir.write.withdrawal import withdraw
from reporting.outcomes.database import phases
from service.audit.settings_changes import note_changes
from service.commands.main import app
from service.database import instances, versions
from service.database.pool import transaction
from service.exit_codes import ExitCode
from tests.integration.reporting.fhir.conftest import Client, Save
from tests.records import offered


def semblance(api: Api, *arguments: str) -> Result:
    environment = {"SEMBLANCE_DATABASE_URL": api.settings.database_url, "COLUMNS": "250"}
    return CliRunner().invoke(app, list(arguments), env=environment)


def changes(api: Api, *options: str) -> list[dict[str, Any]]:
    done = semblance(api, "audit", "changes", "--output", "json", *options)
    assert done.exit_code == ExitCode.DONE, done.output
    return list(json.loads(done.stdout))


def test_a_withdrawal_has_who_why_and_both_states(api: Api, client: Client, save_photograph: Save) -> None:
    save_photograph(1)
    (entry,) = client.get("Observation").json()["entry"]
    name = entry["resource"]["id"]
    with transaction(api.pool) as connection:
        withdraw(connection, name, reason="of another patient", who="anna", settings=api.settings)
        withdraw(connection, name, reason="once more", who="ben", settings=api.settings)  # was so already
    (change,) = changes(api, "--about", name)
    assert (change["what"], change["by"], change["reason"]) == (
        "result-withdrawn",
        "anna",
        "of another patient",
    )
    assert (change["before"], change["after"]) == ({"value": "final"}, {"value": "entered-in-error"})


def test_a_correction_tells_what_differs_in_the_header(api: Api) -> None:
    with transaction(api.pool) as connection:
        instances.receive(connection, offered("1.2.3"))
        before = instances.by_uid(connection, "1.2.3")
        for number, patient in enumerate(("P2", "P3"), 1):
            version = versions.Version(
                sha256=f"{number:064}", size_bytes=1, sop_class_uid=before.sop_class_uid,
                transfer_syntax_uid=before.transfer_syntax_uid, study_instance_uid=before.study_instance_uid,
                series_instance_uid=before.series_instance_uid, patient_id=patient,
                issuer_of_patient_id=before.issuer_of_patient_id,
            )  # fmt: skip
            detail = {"by": "anna", "reason": "wrong number"}
            versions.replace(connection, before.instance_id, version, detail)
    second, first = changes(api, "--about", "1.2.3")
    assert first["before"] == {"sha256": before.sha256, "patient_id": before.patient_id}
    assert first["after"] == {"sha256": f"{1:064}", "patient_id": "P2"}
    assert (second["before"]["patient_id"], second["after"]["patient_id"]) == ("P2", "P3")
    assert (second["by"], second["reason"]) == ("anna", "wrong number")


def test_a_phase_tells_the_one_before(api: Api) -> None:
    for day, why in ((date(2022, 1, 1), "new clinic"), (date(2023, 1, 1), "new camera")):
        with transaction(api.pool) as connection:
            phases.begin(connection, phase="", method="", begins_on=day, reason=why, author="anna")
    second, first = changes(api, "--by", "anna")
    assert (first["before"], second["before"]["begins_on"]) == ({}, "2022-01-01")
    assert (second["what"], second["after"]["begins_on"], second["reason"]) == (
        "phase",
        "2023-01-01",
        "new camera",
    )


def test_a_setting_is_there_with_its_process(api: Api) -> None:
    with transaction(api.pool) as connection:
        note_changes(connection, api.settings, "node")
        note_changes(connection, api.settings.model_copy(update={"organisation": "Clinic"}), "node")
    change = changes(api)[0]
    assert (change["by"], change["about"]) == ("node", "organisation")
    assert (change["before"], change["after"]) == (
        {"organisation": '"Semblance"'}, {"organisation": '"Clinic"'},
    )  # fmt: skip
    assert changes(api, "--since", "9000-01-01") == []
    assert "organisation" in semblance(api, "audit", "changes").stdout
    assert "nothing was changed" in semblance(api, "audit", "changes", "--by", "nobody").stdout


def test_a_line_that_no_program_can_read_does_not_hide_the_others(api: Api) -> None:
    with transaction(api.pool) as connection:
        note_changes(connection, api.settings, "node")
        into = "INSERT INTO ledger (sop_instance_uid, event, at, detail) VALUES "
        for line in (
            "('1', 'corrected', 'infinity', '{}')",
            f"('1', 'corrected', now(), '{{\"version\": {'9' * 5001}}}')",
            f"('1', 'corrected', now(), '{'[' * 1500}{']' * 1500}')",
            "('1', 'corrected', now(), '{\"version\": \"x\"}')",
        ):
            connection.execute((into + line).encode())
    assert changes(api, "--by", "node")


def test_reading_it_is_audited(api: Api) -> None:
    changes(api)
    with psycopg.connect(api.settings.database_url) as connection:
        row = connection.execute("SELECT count(*) FROM audit_message WHERE event_id = '110101'").fetchone()
    assert row == (1,)


@pytest.mark.parametrize(
    "command",
    [
        ("withdraw", "1.2.3"),
        ("quarantine", "accept", "1"),
        ("quarantine", "discard", "1"),
        ("rejections", "lift", "1.2.3"),
        ("outcomes", "phases", "--begin", "2023-01-01"),
        ("outcomes", "risk", "fit", "--code", "1"),
    ],
    ids=" ".join,
)
def test_a_reason_has_words(api: Api, command: tuple[str, ...]) -> None:
    assert semblance(api, *command, "--reason", "  ").exit_code == ExitCode.USAGE
