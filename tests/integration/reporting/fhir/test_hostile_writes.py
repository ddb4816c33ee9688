"""Wrong, contradictory and malicious bodies and Bundles: refused where the fault is; nothing stays."""

from __future__ import annotations

from typing import Any

from tests.integration.reporting.fhir.conftest import BASE_URL, Client
from tests.integration.reporting.fhir.hostile import bundle, entry, patient, procedure, put, refused

_HUGE = "9" * 5000


def test_bodies_that_no_resource_can_be(client: Client) -> None:
    deep = (
        b'{"resourceType":"Patient","extension":'
        + b'[{"url":"u","extension":' * 40
        + b"[]"
        + b"}]" * 40
        + b"}"
    )
    for body, status, expression in (
        (b'{"resourceType":"Patient","name":[{"family":"\\ud800"}]}', 400, "http.body"),
        (b'{"resourceType":"Patient","name":[{"family":"a\\u0000b"}]}', 400, "http.body"),
        (b'{"resourceType":"Patient","multipleBirthInteger":1e999999999}', 400, "http.body"),
        (b'{"resourceType":"Patient","multipleBirthInteger":' + b"9" * 5000 + b"}", 400, "http.body"),
        (deep, 400, "http.body"),
        (b"[" * 100_000, 400, "http.body"),
        (b"", 400, "http.body"),
        (b'{"resourceType":["Patient"]}', 400, "Patient.resourceType"),
    ):
        refused(client.ask("POST", "Patient", body), status, expression, body[:80])
    refused(client.ask("PUT", "Patient/a%0A", patient(id="a\n")), 400, "http.path", "a line end in an id")


def test_resources_that_are_wrong_are_refused_where_they_are(client: Client) -> None:
    put(client)
    hours = {"start": "2025-01-01T10:00:00Z", "end": "2025-01-01T09:00:00Z"}
    for resource, expression in (
        (patient(contained=[{"resourceType": "Banana"}]), "Patient.contained[0]"),
        (patient(contained=[{"resourceType": ["Patient"]}]), "Patient.contained[0]"),
        (patient(managingOrganization={"reference": "#none"}), "Patient.managingOrganization.reference"),
        (patient(name=[{"family": "x", "period": hours}]), "Patient.name[0].period"),
        (procedure(performedPeriod=hours), "Procedure.performedPeriod"),
        (procedure(performedPeriod={"start": "2025", "end": "2024"}), "Procedure.performedPeriod"),
        (patient(identifier=[{"value": "x" * 2001}]), "Patient.identifier"),
        (patient(name=[{"family": "ж" * 1001}]), "Patient.name.family"),
        (patient(deceasedDateTime="9999-12-31T23:59:59-14:00"), "Patient.deceasedDateTime"),
    ):
        answer = client.ask("POST", resource["resourceType"], resource)
        assert answer.status == 422, (resource, answer.content)
        expressions = [issue["expression"][0] for issue in answer.json()["issue"]]
        assert expression in expressions, (expressions, expression)
    same_year = {"start": "2025-03", "end": "2025"}
    assert client.ask("POST", "Procedure", procedure(performedPeriod=same_year)).status == 201
    inside = {"resourceType": "Organization", "id": "o", "name": "Clinic"}
    own = patient(contained=[inside], managingOrganization={"reference": "#o"})
    assert client.ask("POST", "Patient", own).status == 201


def test_conditions_that_cannot_hold(client: Client) -> None:
    put(client)
    for tag in ('W/"²"', "", 'W/"1", W/"2"', 'W/"-1"', f'W/"x{_HUGE}"'):
        answer = client.ask("PUT", "Patient/p1", patient(id="p1", gender="male"), If_Match=tag)
        refused(answer, 400, "http.if-match", tag)
    stale = client.ask("PUT", "Patient/p1", patient(id="p1", gender="male"), If_Match=f'W/"{_HUGE}"')
    refused(stale, 412, "http.if-match", "a version there never was")
    nobody = client.ask("PUT", "Patient/nobody", patient(id="nobody"), If_Match="*")
    refused(nobody, 412, "http.if-match", "* and there is none")
    assert client.ask("PUT", "Patient/p1", patient(id="p1", gender="male"), If_Match="*").status == 200
    tagged = client.ask("PUT", "Patient/p1", patient(id="p1"), If_None_Match='W/"1"')
    refused(tagged, 400, "http.if-none-match", "a tag")
    misplaced = client.ask("PUT", "Patient/p1", patient(id="p1"), If_None_Exist="identifier=x")
    refused(misplaced, 400, "http.if-none-exist", "of an update")
    before = len(client.get("Patient").ids())
    for condition in (
        "", "?", "identifier=", "identifier=a&family=", "foo=1", "_count=1", "identifier=%00",
        "Procedure?identifier=a", "http://elsewhere/Patient?identifier=a",
    ):  # fmt: skip
        answer = client.ask("POST", "Patient", patient(), If_None_Exist=condition)
        refused(answer, 400, "http.if-none-exist", condition)
    assert len(client.get("Patient").ids()) == before
    for number, condition in enumerate(
        ("identifier=1", "Patient?identifier=2", f"{BASE_URL}/Patient?identifier=3")
    ):
        named = patient(identifier=[{"value": str(number + 1)}])
        statuses = [client.ask("POST", "Patient", named, If_None_Exist=condition).status for _ in range(2)]
        assert statuses == [201, 200], condition


_STALE = entry(patient(id="p1", gender="female"), "PUT", "Patient/p1", ifMatch='W/"99"')
BUNDLES: tuple[tuple[Any, int, str], ...] = (
    ({"resourceType": "Bundle", "type": "transaction", "entry": 5}, 400, "Bundle.entry"),
    ({"resourceType": "Bundle", "type": "batch", "entry": "abc"}, 400, "Bundle.entry"),
    ({"resourceType": "Bundle", "type": ["batch"]}, 400, "Bundle.type"),
    (bundle(1), 400, "Bundle.entry[0]"),
    (bundle(entry(url="http://[")), 400, "Bundle.entry[0].request.url"),
    (bundle(entry(url=["Patient"])), 400, "Bundle.entry[0].request.url"),
    (bundle(entry(url="Patient?identifier=x")), 400, "Bundle.entry[0].request.url"),
    (
        bundle(entry(patient(id="a"), "PUT", "http://elsewhere/x/Patient/a")),
        400,
        "Bundle.entry[0].request.url",
    ),
    (bundle(entry(patient(id="a"), "PUT", "Patient/b")), 400, "Bundle.entry[0].resource.id"),
    (bundle(entry(method=["POST"])), 400, "Bundle.entry[0].request.method"),
    (bundle(entry(method="DELETE")), 400, "Bundle.entry[0].request.method"),
    (
        bundle(entry({"resourceType": "Observation"}, url="Observation")),
        405,
        "Bundle.entry[0].request.method",
    ),
    (bundle(entry(procedure())), 400, "Bundle.entry[0].resource.resourceType"),
    (bundle(entry(), entry(patient(gender="x"))), 422, "Bundle.entry[1].resource.gender"),
    (bundle(entry(ifNoneExist=5)), 400, "Bundle.entry[0].request.ifNoneExist"),
    (bundle(entry(ifNoneExist="")), 400, "Bundle.entry[0].request.ifNoneExist"),
    (bundle(entry(ifNoneExist="foo=1")), 400, "Bundle.entry[0].request.ifNoneExist"),
    (bundle(entry(ifMatch='W/"1"')), 400, "Bundle.entry[0].request.ifMatch"),
    (
        bundle(entry(patient(id="p1"), "PUT", "Patient/p1", ifMatch="x")),
        400,
        "Bundle.entry[0].request.ifMatch",
    ),
    (bundle(entry(), _STALE), 412, "Bundle.entry[1].request.ifMatch"),
    (
        bundle(entry(patient(id="p1"), "PUT", "Patient/p1", ifNoneMatch="*")),
        412,
        "Bundle.entry[0].request.ifNoneMatch",
    ),
    (bundle(entry(patient(id="n"), "PUT", "Patient/n", ifMatch="*")), 412, "Bundle.entry[0].request.ifMatch"),
    (bundle(entry(ifModifiedSince="2020-01-01T00:00:00Z")), 400, "Bundle.entry[0].request.ifModifiedSince"),
    (
        bundle(*(entry(patient(id="d", gender=g), "PUT", "Patient/d") for g in ("male", "female"))),
        400,
        "Bundle.entry[1].request.url",
    ),
    (bundle(*({**entry(), "fullUrl": "urn:uuid:1"} for _ in range(2))), 400, "Bundle.entry[1].fullUrl"),
    (bundle({**entry(), "fullUrl": 5}), 400, "Bundle.entry[0].fullUrl"),
    *(
        (
            bundle(entry(procedure(subject={"reference": reference}), url="Procedure")),
            status,
            "Bundle.entry[0].resource.subject.reference",
        )
        for reference, status in (
            ("urn:uuid:11111111-1111-1111-1111-111111111111", 422),
            ("Patient?identifier=none", 412),
            ("Patient?family=Wei%C3%9F", 412),
            ("Patient?foo=1", 400),
            ("Patient?", 400),
        )
    ),
)


def test_bundles_are_refused_at_the_entry_and_leave_nothing(client: Client) -> None:
    put(client)
    assert client.ask("POST", "Patient", patient()).status == 201
    before = len(client.get("Patient").ids())
    for body, status, expression in BUNDLES:
        refused(client.ask("POST", "", body), status, expression, body)
    assert len(client.get("Patient").ids()) == before
    assert client.get("Patient/p1").headers["etag"] == 'W/"1"'


def test_a_batch_goes_on_after_every_kind_of_fault(client: Client) -> None:
    put(client)
    good = entry(patient(id="b1"), "PUT", f"{BASE_URL}/Patient/b1")
    answer = client.ask("POST", "", bundle(1, _STALE, entry(url="http://["), good, kind="batch"))
    responses = [each["response"] for each in answer.json()["entry"]]
    assert [response["status"][:3] for response in responses] == ["400", "412", "400", "201"]
    stale = responses[1]["outcome"]["issue"][0]
    assert (stale["code"], stale["expression"]) == ("conflict", ["Bundle.entry[1].request.ifMatch"])
    assert client.get("Patient/b1").status == 200
