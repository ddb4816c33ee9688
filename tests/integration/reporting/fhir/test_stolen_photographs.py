"""A patient's token reads its own and no more: with real tokens, every way to somebody else's photographs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pytest

from reporting.fhir.http import Api
from reporting.http.server import make_api
from reporting.identifiers import fhir_id
from service.config import Settings
from service.database.pool import transaction
from tests.integration.reporting.fhir.conftest import Answer, Client, Save
from tests.integration.reporting.fhir.tokens import ANNA, BEN, Party, patient_token, registered

SYSTEM = "urn:oid:1.2.3.4"
CARLA = fhir_id("Patient", "HOSPITAL-A", "CARLA")  # whose first photograph has not come
DORA = fhir_id("Patient", "HOSPITAL-A", "DORA")  # whom nobody knows, and nobody will
SCOPES = (
    "patient/*.cruds",
    "patient/*.*",
    "patient/*.write patient/*.read",
    "patient/Patient.cruds patient/Procedure.cruds patient/Observation.cruds patient/Subscription.cruds",
    "patient/*.cruds system/*.cruds user/*.cruds system/Patient.cruds",
)
Row = dict[str, Any]


@pytest.fixture
def party() -> Party:
    return Party.made()


@pytest.fixture
def api(settings: Settings, tmp_path: Path, party: Party) -> Iterator[Api]:
    """An API that asks for tokens and routes photographs by the hospital's numbers."""
    chosen = {
        "api_port": 8080,
        "fhir_auth_file": registered(tmp_path, party),
        "fhir_identifier_systems": {"HOSPITAL-A": SYSTEM},
        "fhir_subscription_endpoints": ("https://ehr.example/hooks",),
    }
    made = make_api(settings.model_copy(update=chosen))
    yield made
    made.close()


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a token of ANNA's."""

    client: Client
    token: str
    reader: str  # a token of hers that only reads

    def ask(self, method: str, url: str, body: Any = None, **headers: str) -> Answer:
        return self.client.ask(method, url, body, Authorization=self.token, **headers)

    def get(self, url: str) -> Answer:
        return self.ask("GET", url)


@pytest.fixture(params=SCOPES)
def anna(request: pytest.FixtureRequest, client: Client, party: Party) -> Holder:
    token = patient_token(party, scope=request.param)
    return Holder(client=client, token=token, reader=patient_token(party))


@pytest.fixture
def ids(save_photograph: Save) -> dict[str, str]:
    """Photographs of ANNA and BEN; logical ids of BEN's resources, by type, and of the appraisal."""
    save_photograph(1, "ANNA")
    saved = save_photograph(2, "BEN")
    found = {each.resource.resource_type: each.resource.resource_id for each in saved}
    return found | {"Appraisal": str(uuid5(UUID(int=7), "BEN 2"))}


def numbered(resource_id: str, *numbers: str, **more: Any) -> Row:
    return {
        "resourceType": "Patient",
        "id": resource_id,
        "identifier": [{"system": SYSTEM, "value": each} for each in numbers],
        **more,
    }


def linked(kind: str, other: str) -> list[Row]:
    return [{"other": {"reference": f"Patient/{other}"}, "type": kind}]


def writes(number: str, person: str) -> Iterator[tuple[str, str, Any, dict[str, str]]]:
    """Every way to have the photographs of that number, or of that Patient, taken for ANNA's."""
    stolen = numbered(ANNA, "ANNA", number)
    yield "PUT", f"Patient/{ANNA}", stolen, {}
    yield "PUT", f"Patient/{ANNA}", stolen, {"If_Match": 'W/"1"'}
    yield "PUT", f"Patient/{ANNA}", stolen, {"If_None_Match": "*"}
    yield "PUT", f"Patient/{ANNA}?_pretty=true", stolen, {}
    yield "PATCH", f"Patient/{ANNA}", [{"op": "add", "path": "/identifier/-", "value": {}}], {}
    yield "PUT", f"Patient?identifier={SYSTEM}|{number}", stolen, {}
    yield "PUT", f"Patient?identifier={SYSTEM}|ANNA", stolen, {}
    yield "PATCH", f"Patient?identifier={SYSTEM}|{number}", stolen, {}
    yield "POST", "Patient", numbered("x", number), {}
    yield "POST", "Patient", numbered("x", number), {"If_None_Exist": f"identifier={SYSTEM}|{number}"}
    yield "DELETE", f"Patient/{person}", None, {}
    yield "PUT", f"Patient/{person}", numbered(person, number), {}
    yield "PUT", f"Patient/{person}", numbered(person, number, link=linked("replaced-by", ANNA)), {}
    yield "PUT", f"Patient/{person}", numbered(person, number, active=False), {"If_Match": 'W/"1"'}
    for kind in ("replaces", "replaced-by", "seealso", "refer"):
        yield "PUT", f"Patient/{ANNA}", numbered(ANNA, "ANNA", link=linked(kind, person)), {}
    subject = {"identifier": {"system": SYSTEM, "value": number}}
    yield "POST", "Procedure", {"resourceType": "Procedure", "status": "completed", "subject": subject}, {}
    for row in (
        {"method": "PUT", "url": f"Patient/{ANNA}"},
        {"method": "PUT", "url": f"Patient?identifier={SYSTEM}|{number}"},
        {"method": "POST", "url": "Patient", "ifNoneExist": f"identifier={SYSTEM}|{number}"},
        {"method": "PATCH", "url": f"Patient/{ANNA}"},
    ):
        entry = {"resource": stolen, "request": row}
        read = {"request": {"method": "GET", "url": f"Patient?identifier={SYSTEM}|{number}"}}
        for kind in ("transaction", "batch"):
            for entries in ([entry], [read, entry], [read]):
                yield "POST", "", {"resourceType": "Bundle", "type": kind, "entry": entries}, {}


def others_are_untouched(anna: Holder, save_photograph: Save) -> None:
    """Photographs that come now are of whom they say, and ANNA sees one photograph, her own."""
    save_photograph(3, "BEN")
    save_photograph(4, "CARLA")
    reader = replace(anna, token=anna.reader)
    assert len(reader.get("Observation").ids()) == 1
    assert reader.get("Patient").ids() == [ANNA]
    assert reader.get("Media?modality=130404").json()["total"] == 1


@pytest.mark.usefixtures("ids")
@pytest.mark.parametrize(("number", "person"), [("BEN", BEN), ("CARLA", CARLA)], ids=["known", "to come"])
def test_nothing_is_written(anna: Holder, save_photograph: Save, number: str, person: str) -> None:
    before = versions(anna.client)
    for method, url, body, headers in writes(number, person):
        answer = anna.ask(method, url, body, **headers)
        assert answer.status in (403, 405), (method, url, answer.status, answer.content)
    assert versions(anna.client) == before
    others_are_untouched(anna, save_photograph)


def versions(client: Client) -> list[tuple[str, str, int]]:
    """Every resource but records of accesses."""
    with transaction(client.app.api.pool) as connection:
        rows = connection.execute(
            "SELECT type, id, version_id FROM fhir_resource WHERE type <> 'AuditEvent' ORDER BY 1, 2"
        )
        return [(row["type"], row["id"], row["version_id"]) for row in rows]


def told(answer: Answer, *names: str) -> tuple[int, bytes]:
    """What an answer says, without the names that were asked for."""
    content = answer.content
    for name in names:
        content = content.replace(name.encode(), b"X")
    return answer.status, content.replace(b"'c'", b"'u'")


@pytest.mark.usefixtures("ids")
def test_a_refused_write_tells_nothing_about_others(anna: Holder) -> None:
    """Answers are the same whether somebody is known, will be, or is not."""
    answers = [
        [told(anna.ask(method, url, body, **headers), number, person) for method, url, body, headers in
         writes(number, person)]
        for number, person in (("BEN", BEN), ("CARLA", CARLA), ("DORA", DORA))
    ]  # fmt: skip
    assert answers[0] == answers[1] == answers[2]


def reads(number: str, person: str, ids: Callable[[str], str]) -> Iterator[tuple[str, str, Any]]:
    """Every way to look for somebody."""
    of = f"Patient/{person}"
    yield "GET", of, None
    for below in ("_history", "_history/1", "$everything", "Observation", "Media"):
        yield "GET", f"{of}/{below}", None
    yield "POST", f"{of}/$everything", {"resourceType": "Parameters"}
    yield "POST", f"{of}/$validate", None
    yield "POST", f"{of}/Observation/_search", None
    for name in ("Observation", "Media", "DiagnosticReport", "ImagingStudy", "Provenance"):
        yield "GET", f"{name}/{ids(name)}", None
        yield "GET", f"{name}/{ids(name)}/_history", None
        yield "GET", f"{name}/{ids(name)}/_history/1", None
        yield "POST", f"{name}/{ids(name)}/$validate", None
    yield "GET", f"Binary/{ids('DiagnosticReport')}", None
    yield "GET", f"Binary/{ids('Appraisal')}", None
    reason = {"resourceType": "Parameters", "parameter": [{"name": "reason", "valueString": "mine"}]}
    yield "POST", f"Observation/{ids('Observation')}/$withdraw", reason
    for query in (
        f"Observation?patient={person}",
        f"Observation?subject=Patient/{person}",
        f"Observation?patient.identifier={SYSTEM}|{number}",
        f"Observation?subject:identifier={SYSTEM}|{number}",
        f"Observation?_id={ids('Observation')}",
        f"Observation?derived-from=Media/{ids('Media')}",
        f"Observation?_has:DiagnosticReport:result:patient={person}",
        f"Observation/$lastn?patient={person}&code=score",
        f"Patient?identifier={SYSTEM}|{number}",
        f"Patient?_id={person}",
        f"Patient?link={person}",
        f"Patient?_has:Observation:patient:_id={ids('Observation')}",
        f"Patient?_has:Observation:patient:patient={person}&_revinclude=Observation:patient",
        f"DiagnosticReport?result={ids('Observation')}&_include=DiagnosticReport:result",
        f"Device?_has:Observation:device:patient={person}",
        f"AuditEvent?patient={person}",
        f"Provenance?target=Observation/{ids('Observation')}",
        f"DetectedIssue?patient={person}",
    ):
        yield "GET", query, None
    yield "GET", "$export", None
    yield "GET", "Patient/$export", None
    yield "GET", "Measure/facial-change/$evaluate-measure?code=80872004", None
    hook = {"type": "rest-hook", "endpoint": "https://ehr.example/hooks"}
    criteria = f"Observation?patient={person}"
    yield (
        "POST",
        "Subscription",
        {"resourceType": "Subscription", "status": "requested", "reason": "x", "criteria": criteria,
         "channel": hook},
    )  # fmt: skip


def test_nothing_is_read_and_nothing_told(anna: Holder, ids: dict[str, str]) -> None:
    """What somebody has is not shown; and whether there is anything, no answer tells."""

    def unknown(name: str) -> str:
        return fhir_id(name, "nothing of the kind")

    theirs = [*ids.values(), BEN, "BEN"]
    nobodys = [*map(unknown, ids), DORA, "DORA"]
    for there, absent in zip(
        reads("BEN", BEN, ids.__getitem__),
        reads("DORA", DORA, unknown),
        strict=True,
    ):
        first, second = (anna.ask(method, url, body) for method, url, body in (there, absent))
        assert first.status == second.status, (there, first.content, second.content)
        assert first.status in (200, 400, 403, 404, 405), there
        if first.status == 200:
            found = first.json()
            assert found["resourceType"] == "Bundle", there
            matches = [e for e in found.get("entry", []) if e.get("search", {}).get("mode") == "match"]
            assert matches == [], there
        assert stripped(first, theirs) == stripped(second, nobodys), there


def stripped(answer: Answer, names: list[str]) -> bytes:
    """An answer without the names that were asked for, and without what differs from one to the next."""
    content = answer.content
    for name in names:
        content = content.replace(name.encode(), b"X")
    if answer.status != 200:
        return content
    found = answer.json()
    return repr((found.get("total"), found.get("entry", []))).encode()
