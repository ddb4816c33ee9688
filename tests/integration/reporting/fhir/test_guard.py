"""Who may call from where, and under which name links come back."""

from __future__ import annotations

from typing import Any

import pytest

from reporting.fhir.guard import base_url_of
from reporting.fhir.http import Api
from reporting.http.fhir_app import FhirApp
from service.config import Settings
from tests.integration.reporting.fhir.conftest import Client, Save
from tests.integration.reporting.fhir.write.bodies import PATIENT

EVIL = "https://evil.example"
REASON = {"resourceType": "Parameters", "parameter": [{"name": "reason", "valueString": "mine"}]}


def changed(api: Api, **update: Any) -> Client:
    from dataclasses import replace

    return Client(FhirApp(replace(api, settings=api.settings.model_copy(update=update))))


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": EVIL},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:8081", "Host": "127.0.0.1:8080"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"},
        {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "navigate"},
    ],
)
def test_a_page_of_another_origin_does_nothing(client: Client, save: Save, headers: dict[str, str]) -> None:
    save()
    (observation,) = client.get("Observation").ids()
    for content_type, body in (
        ("application/x-www-form-urlencoded", b"reason=mine"),
        ("text/plain", b"{}"),
        ("", REASON),
    ):
        sent = headers | ({"Content_Type": content_type} if content_type else {})
        assert client.ask("POST", f"Observation/{observation}/$withdraw", body, **sent).status == 403
    assert client.ask("POST", "Patient", PATIENT, **headers).status == 403
    assert client.get(f"Observation/{observation}").json()["status"] == "final"


def test_a_form_does_not_withdraw(client: Client, save: Save) -> None:
    save()
    (observation,) = client.get("Observation").ids()
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    answer = client.ask("POST", f"Observation/{observation}/$withdraw", b"reason=mine", **form)
    assert answer.status == 415
    assert client.get(f"Observation/{observation}").json()["status"] == "final"


def test_our_own_pages_and_links_are_served(client: Client) -> None:
    own = {"Origin": "http://127.0.0.1:8080", "Host": "127.0.0.1:8080", "Sec_Fetch_Site": "same-origin"}
    assert client.ask("POST", "Patient", PATIENT, **own).status == 201
    visit = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Host": "localhost:8080"}
    assert client.get("Patient", **visit).status == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8080", "0.0.0.0:8080", "", "a b"])
def test_another_name_for_this_machine_is_refused(client: Client, host: str) -> None:
    assert client.get("Patient", Host=host).status == 421


def test_origins_that_are_allowed(api: Api) -> None:
    client = changed(api, fhir_allowed_origins=("https://viewer.example",))
    asked = client.get("Patient", Origin="https://viewer.example")
    assert asked.status == 200
    assert asked.headers["access-control-allow-origin"] == "https://viewer.example"
    preflight = client.ask(
        "OPTIONS", "Patient", Origin="https://viewer.example", Access_Control_Request_Method="PUT"
    )
    assert preflight.status == 204
    assert "PUT" in preflight.headers["access-control-allow-methods"]
    other = client.ask("OPTIONS", "Patient", Origin=EVIL, Access_Control_Request_Method="PUT")
    assert "access-control-allow-origin" not in other.headers
    assert client.get("Patient", Origin=EVIL).status == 403


def test_what_the_server_is_like_any_page_may_read(api: Api) -> None:
    from dataclasses import replace

    class Nobody:
        def principal(self, headers: Any) -> Any:
            raise AssertionError("not asked")

    client = Client(FhirApp(replace(api, authorizer=Nobody())))
    asked = client.get("metadata", Origin=EVIL)
    assert (asked.status, asked.headers["access-control-allow-origin"]) == (200, "*")


@pytest.mark.parametrize(
    ("update", "peer", "headers", "expected"),
    [
        ({"api_base_url": "https://a.example/fhir/"}, "10.0.0.1", {"host": "b"}, "https://a.example/fhir"),
        ({}, "10.0.0.1", {"host": "semblance:8080"}, "http://semblance:8080/fhir"),
        ({}, "10.0.0.1", {}, "http://127.0.0.1:8080/fhir"),
        ({}, "10.0.0.1", {"host": "0.0.0.0:8080"}, "http://127.0.0.1:8080/fhir"),
        ({}, "10.0.0.1", {"host": 'a"b'}, "http://127.0.0.1:8080/fhir"),
        ({}, "10.0.0.1", {"host": "s", "x-forwarded-host": "evil.example"}, "http://s/fhir"),
        (
            {"api_trusted_proxies": ("10.0.0.0/8",)},
            "10.0.0.1",
            {"host": "s", "x-forwarded-host": "x, a.example", "x-forwarded-proto": "https"},
            "https://a.example/fhir",
        ),
        (
            {"api_trusted_proxies": ("10.0.0.0/8",)},
            "10.0.0.1",
            {"x-forwarded-host": "a.example:8443", "x-forwarded-proto": "https", "x-forwarded-prefix": "/s/"},
            "https://a.example:8443/s/fhir",
        ),
        (
            {"api_trusted_proxies": ("10.0.0.0/8",)},
            "11.0.0.1",
            {"x-forwarded-host": "evil"},
            "http://127.0.0.1:8080/fhir",
        ),
    ],
)
def test_the_base_url(update: dict[str, Any], peer: str, headers: dict[str, str], expected: str) -> None:
    settings = Settings(api_host="0.0.0.0", api_port=8080, **update)  # noqa: S104 - what is tested
    assert base_url_of(settings, peer, headers) == expected


def test_links_follow_the_proxy(api: Api, save: Save) -> None:
    save()
    client = changed(api, api_trusted_proxies=("127.0.0.1",))
    forwarded = {"X_Forwarded_Host": "fhir.example", "X_Forwarded_Proto": "https"}
    answer = client.get("Observation?_count=1", **forwarded)
    assert answer.link("self") == "https://fhir.example/fhir/Observation?_count=1"
    assert answer.json()["entry"][0]["fullUrl"].startswith("https://fhir.example/fhir/Observation/")
    assert client.get("metadata", **forwarded).json()["implementation"]["url"] == "https://fhir.example/fhir"
    heatmap = client.get("Media?modality=130404", **forwarded).json()["entry"][0]["resource"]
    assert heatmap["content"]["url"].startswith("https://fhir.example/fhir/Binary/")
    patient = PATIENT | {"generalPractitioner": [{"reference": "https://fhir.example/fhir/Practitioner/1"}]}
    stored = client.ask("POST", "Patient", patient, **forwarded)
    assert stored.headers["location"].startswith("https://fhir.example/fhir/Patient/")
    assert stored.json()["generalPractitioner"][0]["reference"] == "Practitioner/1"


def test_what_is_stored_follows_a_new_name(api: Api, save: Save) -> None:
    save()
    url = changed(api, api_base_url="https://new.example/fhir").get("Media?modality=130404").json()
    assert url["entry"][0]["resource"]["content"]["url"].startswith("https://new.example/fhir/Binary/")
