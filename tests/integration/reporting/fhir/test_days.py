"""A day without a zone is a day where the server is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reporting.fhir.http import Api
from reporting.http.fhir_app import FhirApp
from reporting.http.server import make_api
from service.config import Settings
from tests.integration.reporting.fhir.conftest import Client, Save
from tests.integration.reporting.fhir.write.bodies import procedure

MORNING = "20260301090000+1300"  # still the last of February in Greenwich


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """A server in Auckland."""
    return settings.model_copy(update={"timezone": "Pacific/Auckland"})


@pytest.fixture
def api(settings: Settings) -> Iterator[Api]:
    made = make_api(settings.model_copy(update={"api_port": 8080}))
    yield made
    made.close()


def photographed(save: Save, when: str = MORNING, **more: str) -> None:
    save(AcquisitionDateTime=when, StudyDate=when[:8], StudyTime=when[8:14],
         TimezoneOffsetFromUTC="+1300", **more)  # fmt: skip


def test_every_type_is_found_by_the_local_day(client: Client, save: Save) -> None:
    photographed(save)
    patient = client.get("Patient").ids()[0]
    surgery = procedure(f"Patient/{patient}", performedDateTime="2026-03-01T09:30:00+13:00")
    assert client.ask("POST", "Procedure", surgery).status == 201
    for resource_type, name in (
        ("Observation", "date"),
        ("DiagnosticReport", "date"),
        ("ImagingStudy", "started"),
        ("Procedure", "date"),
        ("Media", "created"),
    ):
        for day, count in (("2026-03-01", 1), ("2026-02-28", 0), ("ge2026-03-01", 1), ("lt2026-03-01", 0)):
            if resource_type == "Media" and day.startswith("ge"):
                continue  # the heatmap is made now
            asked = f"{resource_type}?{name}={day}"
            assert len(client.get(asked).ids()) == count, asked
    last = f"Observation/$lastn?patient={patient}&date="
    assert len(client.get(last + "2026-03-01").ids()) == 1
    assert client.get(last + "2026-02-28").ids() == []
    everything = f"Patient/{patient}/$everything?_type=Observation,Procedure&"
    assert len(client.get(everything + "start=2026-03-01&end=2026-03-01").ids()) == 2
    assert client.get(everything + "start=2026-02-28&end=2026-02-28").ids() == []


def test_days_that_were_written_are_found_and_keep_their_neighbours_out(client: Client) -> None:
    assert client.ask("PUT", "Patient/p", {"resourceType": "Patient", "id": "p", "birthDate": "2019-02-12"})
    for day in ("2026-03-01", "2026-04-05", "2026-09-27"):  # of 24, 25 and 23 hours
        assert client.ask("POST", "Procedure", procedure("Patient/p", performedDateTime=day)).status == 201
        assert len(client.get(f"Procedure?date={day}").ids()) == 1, day
        assert len(client.get(f"Procedure?date={day}T00:00").ids()) == 0, day
        assert len(client.get(f"Procedure?date=lt{day}").ids()) == len(client.get("Procedure").ids()) - 1
    assert client.get("Patient?birthdate=2019-02-12").ids() == ["p"]
    assert client.get("Patient?birthdate=2019-02-11").ids() == []


def test_a_photograph_of_a_day_of_25_hours_is_kept(client: Client, save: Save) -> None:
    save(AcquisitionDateTime="", AcquisitionDate="20260405", ContentDate="20260405", StudyDate="20260405",
         StudyTime="", AcquisitionTime="", ContentTime="")  # fmt: skip
    assert len(client.get("Observation?date=2026-04-05").ids()) == 1


def test_another_zone_lays_the_days_out_anew(client: Client, settings: Settings) -> None:
    client.ask("PUT", "Patient/p", {"resourceType": "Patient", "id": "p", "birthDate": "2019-02-12"})
    client.ask("POST", "Procedure", procedure("Patient/p", performedDateTime="2026-03-01"))
    client.ask("POST", "Procedure", procedure("Patient/p", performedDateTime="2026-03-01T09:00:00+13:00"))
    moved = make_api(settings.model_copy(update={"api_port": 8080, "timezone": "America/Lima"}))
    try:
        elsewhere = Client(FhirApp(moved))
        assert len(elsewhere.get("Procedure?date=2026-03-01").ids()) == 1
        assert len(elsewhere.get("Procedure?date=2026-02-28").ids()) == 1  # the moment is of that day there
        assert elsewhere.get("Patient?birthdate=2019-02-12").ids() == ["p"]
        assert len(elsewhere.get("Procedure?date=2026-03-01T05:00:00Z").ids()) == 0
    finally:
        moved.close()
