"""Taking results back, over HTTP and by the command."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from reporting.fhir.http import Api
from reporting.fhir.valid.validate import issues_of
from service.database import appraisals, instances
from service.database.pool import transaction
from service.records import NewInstance, SavedAppraisal
from tests.command import semblance
from tests.integration.reporting.fhir.conftest import Client, Save
from tests.integration.reporting.fhir.write.withdrawing import observation_of, withdraw
from tests.unit.reporting.photographs import SOP_UID, appraised

STUDY = {"StudyInstanceUID": "2.25.77"}


def test_a_result_is_taken_back_with_its_heatmap(client: Client, save_photograph: Save) -> None:
    kept = observation_of(save_photograph(1, **STUDY))
    taken = observation_of(save_photograph(2, **STUDY))
    answer = withdraw(client, taken)
    assert answer.status == 200, answer.content
    assert answer.json()["status"] == "entered-in-error"
    assert answer.headers["etag"] == 'W/"2"'
    assert client.get(f"Observation/{kept}").json()["status"] == "final"
    assert len(client.get("Media?status=entered-in-error").ids()) == 1
    report = client.get("DiagnosticReport").json()["entry"][0]["resource"]
    assert report["status"] == "amended"
    why = client.get(f"Provenance?target=Observation/{taken}&_sort=-recorded").json()["entry"][0]["resource"]
    assert list(issues_of(why)) == []
    assert why["activity"]["coding"][0]["code"] == "NULLIFY"
    assert why["reason"] == [{"text": "wrong patient"}]
    assert why["agent"][0]["who"]["identifier"]["value"] == "local"
    assert client.get("AuditEvent?subtype=operation&action=E").json()["total"] == 1


def test_making_the_results_again_does_not_bring_it_back(client: Client, save_photograph: Save) -> None:
    taken = observation_of(save_photograph(1, **STUDY))
    withdraw(client, taken)
    save_photograph(1, **STUDY)
    save_photograph(2, **STUDY)
    assert client.get(f"Observation/{taken}").json()["meta"]["versionId"] == "2"
    assert client.get(f"Observation/{taken}").json()["status"] == "entered-in-error"
    assert client.get("Media?status=entered-in-error").json()["total"] == 1
    assert client.get("DiagnosticReport").json()["entry"][0]["resource"]["status"] == "amended"


def test_twice_is_once(client: Client, save_photograph: Save) -> None:
    taken = observation_of(save_photograph(1))
    first, second = withdraw(client, taken), withdraw(client, taken, "again")
    assert first.content == second.content
    assert client.get("Provenance").json()["total"] == 2


def test_refusals(client: Client, save_photograph: Save) -> None:
    taken = observation_of(save_photograph(1))
    assert withdraw(client, "nothing").status == 404
    assert withdraw(client, taken, " ").status == 400
    assert client.ask("POST", f"Observation/{taken}/$withdraw", {"resourceType": "Patient"}).status == 400
    assert client.get(f"Observation/{taken}/$withdraw").status == 405
    assert client.get(f"Observation/{taken}").json()["status"] == "final"


def test_while_its_study_grows_nothing_is_lost(client: Client, save_photograph: Save) -> None:
    taken = observation_of(save_photograph(0, **STUDY))
    statuses: list[int] = []
    threads = [
        threading.Thread(target=save_photograph, args=(number,), kwargs=STUDY) for number in range(1, 4)
    ]
    threads.append(threading.Thread(target=lambda: statuses.append(withdraw(client, taken).status)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200]
    report = client.get("DiagnosticReport").json()["entry"][0]["resource"]
    assert (len(report["result"]), report["status"]) == (4, "amended")


@pytest.fixture
def run(api: Api, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.setenv("SEMBLANCE_DATABASE_URL", api.settings.database_url)
    monkeypatch.setenv("SEMBLANCE_API_PORT", "8080")
    return lambda *arguments: semblance("withdraw", *arguments)


def keep(api: Api, saved: SavedAppraisal) -> None:
    """The rows of the photograph and its appraisal."""
    with transaction(api.pool) as connection:
        _, instance_id = instances.receive(
            connection,
            NewInstance(
                sop_instance_uid=SOP_UID, sop_class_uid="1.2", study_instance_uid="1.3",
                series_instance_uid="1.4", transfer_syntax_uid="1.5", patient_id="P",
                issuer_of_patient_id="", calling_ae_title="A", called_ae_title="B",
                peer_address="127.0.0.1", sha256="0" * 64, size_bytes=1,
            ),
        )  # fmt: skip
        appraisals.save(
            connection, instance_id=instance_id, appraisal=saved.appraisal, heatmap_sha256="",
            difference_map_sha256="",
        )  # fmt: skip


def test_the_command_takes_a_photograph_or_an_appraisal(
    api: Api, client: Client, save: Save, run: Callable[..., int], capsys: pytest.CaptureFixture[Any]
) -> None:
    saved = appraised()
    keep(api, saved)
    taken = observation_of(save(saved))
    assert run(SOP_UID, "--reason", "wrong patient", "--by", "quality team") == 0
    assert client.get(f"Observation/{taken}").json()["status"] == "entered-in-error"
    assert run(str(saved.appraisal.appraisal_id), "--reason", "again") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"appraisal {saved.appraisal.appraisal_id} is withdrawn",
        f"appraisal {saved.appraisal.appraisal_id} was withdrawn before",
    ]
    agents = client.get("Provenance?_sort=-recorded").json()["entry"][0]["resource"]["agent"]
    assert agents[0]["who"]["identifier"]["value"] == "quality team"
    events = [e["resource"] for e in client.get("AuditEvent?type=110110&_sort=date").json()["entry"]]
    assert [e["outcomeDesc"] for e in events] == ["withdrawn", "withdrawn before"]
    assert list(issues_of(events[0])) == []
    assert events[0]["agent"][0]["who"]["identifier"]["value"] == "quality team"
    named = [entity["what"]["reference"] for entity in events[0]["entity"] if "what" in entity]
    assert f"Observation/{taken}" in named
    assert any(name.startswith("Patient/") for name in named)
    assert "wrong patient" in base64.b64decode(events[0]["entity"][-1]["query"]).decode()
    assert run("2.25.404", "--reason", "none") == 1
    assert "no appraisal of a photograph 2.25.404" in capsys.readouterr().err


def test_a_withdrawal_that_cannot_be_audited_does_not_happen(
    api: Api, client: Client, save: Save, run: Callable[..., int]
) -> None:
    saved = appraised()
    taken = observation_of(save(saved))
    keep(api, saved)
    with transaction(api.pool) as connection:
        connection.execute(
            "ALTER TABLE fhir_resource ADD CONSTRAINT broken CHECK (body NOT LIKE '%110110%') NOT VALID"
        )
    with pytest.raises(psycopg.errors.CheckViolation):
        run(SOP_UID, "--reason", "wrong patient")
    assert client.get(f"Observation/{taken}").json()["status"] == "final"
