"""Two patients in one study, from the wire to every way of asking: each is found alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from dicom_node.acceptor.scp import Node
from dicom_node.query.contexts import STUDY_ROOT_FIND
from reporting.fhir.access import Principal, parse_scopes
from reporting.fhir.http import Api
from reporting.http.fhir_app import FhirApp
from reporting.http.server import make_api
from reporting.identifiers import fhir_id
from service.config import Settings
from service.database.pool import Pool
from service.pipeline.context import Context
from service.storage.local import InstanceStore
from tests import dicom_objects
from tests.dicom_objects import photograph
from tests.integration.dicom_node.query.asking import PENDING, associate, keys
from tests.integration.dicom_node.rejecting import reported
from tests.integration.reporting.dicomweb.conftest import Web
from tests.integration.reporting.fhir.conftest import Client
from tests.nodes import running

_JSON = "application/dicom+json"


@pytest.fixture
def asked(settings: Settings) -> Settings:
    return settings.model_copy(update={"api_port": 8080, "dicom_query_ae_titles": ("VIEWER",)})


@pytest.fixture
def node(asked: Settings, pool: Pool, store: InstanceStore) -> Iterator[Node]:
    with running(asked, pool, store) as started:
        yield started


@pytest.fixture
def api(asked: Settings) -> Iterator[Api]:
    made = make_api(asked)
    yield made
    made.close()


@dataclass(frozen=True)
class _Knows:
    """Knows the holder of one patient's token."""

    patient: str

    def principal(self, headers: Mapping[str, str]) -> Principal:
        return Principal(client_id="app", scopes=parse_scopes("patient/*.rs"), patient=self.patient)


def found(node: Node, study: str, number: str) -> list[tuple[str, str]]:
    """(Patient ID, number of instances) of the matches of a C-FIND."""
    association = associate(node, STUDY_ROOT_FIND)
    wanted = keys(
        "STUDY", StudyInstanceUID=study, PatientID=number, NumberOfStudyRelatedInstances="",
    )  # fmt: skip
    answers = list(association.send_c_find(wanted, STUDY_ROOT_FIND))
    association.release()
    return [
        (str(ds.PatientID or ""), str(ds.NumberOfStudyRelatedInstances))
        for status, ds in answers
        if status.Status == PENDING and ds is not None
    ]


def images(web: Web, study: str, **query: str) -> set[str]:
    """SOP Instance UIDs that QIDO-RS finds of a study."""
    more = "".join(f"&{name}={value}" for name, value in query.items())
    answer = web.get(f"/instances?StudyInstanceUID={study}{more}", _JSON)
    return {each["00080018"]["Value"][0] for each in answer.json()} if answer.status_code == 200 else set()


def of(client: Client, resource_type: str, patient: str) -> list[dict[str, Any]]:
    entries = client.get(f"{resource_type}?patient={patient}").json().get("entry", [])
    return [each["resource"] for each in entries if each["search"]["mode"] == "match"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("A", ""), ("B", "")),
        (("A", ""), ("B", "HOSPITAL")),
        (("", ""), ("B", "")),
        (("A", ""), ("A", "HOSPITAL")),
    ],
)
def test_each_has_their_own_and_sees_nothing_of_the_other(
    node: Node,
    api: Api,
    pool: Pool,
    store: InstanceStore,
    *,
    first: tuple[str, str],
    second: tuple[str, str],
) -> None:
    study = generate_uid()
    context = Context(settings=api.settings, pool=pool, store=store)
    sent: dict[str, Dataset] = {}
    for number, issuer in (first, second):
        ds = photograph(patient_id=number)
        ds.StudyInstanceUID = study
        if issuer:
            ds.IssuerOfPatientID = issuer
        assert dicom_objects.store(node.port, ds).Status == 0x0000
        reported(context, ds)
        patient = fhir_id("Patient", issuer, number) if number else fhir_id("Patient", "study", study)
        sent[patient] = ds
    client, everybody = Client(FhirApp(api)), Web(api, None)
    whole = images(everybody, study)
    seen: list[set[str]] = []
    for patient, ds in sent.items():
        (other,) = set(sent) - {patient}
        uid, foreign = str(ds.SOPInstanceUID), str(sent[other].SOPInstanceUID)
        for kind in ("DiagnosticReport", "ImagingStudy", "Observation", "DetectedIssue"):
            (own,) = of(client, kind, patient)
            assert (own.get("subject") or own["patient"])["reference"] == f"Patient/{patient}"
        authorizer = _Knows(patient)
        mine = Web(replace(api, authorizer=authorizer), None)
        seen.append(images(mine, study))
        assert uid in seen[-1]
        assert foreign not in seen[-1]
        path = f"/studies/{study}/series/{ds.SeriesInstanceUID}/instances/{uid}"
        theirs = f"/studies/{study}/series/{sent[other].SeriesInstanceUID}/instances/{foreign}"
        assert mine.get(path).status_code == 200
        assert mine.get(theirs).status_code == 404
        token = Client(FhirApp(replace(api, authorizer=authorizer)))
        for kind in ("DiagnosticReport", "ImagingStudy", "Media", "Observation"):
            entries = token.get(f"{kind}?_count=100").json().get("entry", [])
            owners = {each["resource"]["subject"]["reference"] for each in entries}
            assert owners == {f"Patient/{patient}"}, kind
            (foreign_id, *_) = (each["id"] for each in of(client, kind, other))
            assert token.get(f"{kind}/{foreign_id}").status == 404
    assert seen[0] | seen[1] == whole
    assert not seen[0] & seen[1]
    for patient, ds in sent.items():
        number = str(ds.PatientID)
        mine_too = sum(str(each.PatientID) == number for each in sent.values())  # of two issuers, or one
        if not number:
            continue
        matches = found(node, study, number)
        assert [each for each, _ in matches] == [number] * mine_too
        held = [count for each, count in matches if each == number]
        assert str(len(seen[list(sent).index(patient)])) in held
        assert images(everybody, study, PatientID=number) == set().union(
            *(part for part, each in zip(seen, sent.values(), strict=True) if str(each.PatientID) == number)
        )
