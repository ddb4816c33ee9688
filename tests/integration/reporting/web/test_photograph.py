"""The list of photographs and the page of one: what is shown, what is asked, what is written down."""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.http import Api
from reporting.fhir.render import loads
from reporting.holdings.index import catch_up
from reporting.identifiers import observation_id_of
from reporting.report import report
from reporting.web.database import today
from reporting.web.database.today import Show
from reporting.web.people import Role
from service.database import appraisals, dead_letters, instances, ledger
from service.database.pool import transaction
from service.pipeline.context import Context
from service.records import InstanceState, LedgerEvent
from service.steps import APPRAISE
from tests.integration.reporting.judging import judge
from tests.integration.reporting.web.browsing import Browser, add_user
from tests.integration.reporting.web.judged import shown
from tests.unit.reporting.photographs import COLUMNS, ROWS, SOP_UID, photograph, pixels, rejected

PAGE = f"/photographs/{SOP_UID}"
HOSTILE = '<script>alert(1)</script>^"><img src=x onerror=alert(2)>'


@pytest.fixture
def context(api: Api) -> Context:
    return Context(settings=api.settings, pool=api.pool, store=api.store)


def carry(context: Context, saved: object = None, name: str = "") -> int:
    """A photograph through the steps, and its header into the index."""
    data = photograph(**({"PatientName": name} if name else {}))
    instance_id = judge(context, saved or shown(context), data)
    report(context, instance_id)
    while not catch_up(context.pool, context.store, 5.0):
        pass
    return instance_id


def audit_events(api: Api) -> list[dict]:
    with transaction(api.pool) as connection:
        rows = connection.execute(
            "SELECT body FROM fhir_resource WHERE type = 'AuditEvent' ORDER BY resource_id"
        )
        return [json.loads(row["body"]) for row in rows]


def queried(event: dict) -> str:
    return " ".join(b64decode(each["query"]).decode() for each in event.get("entity", []) if "query" in each)


def test_a_patient_is_opened_for_a_purpose_that_is_written_down(
    api: Api, context: Context, clinician: Browser
) -> None:
    carry(context)
    clinician.get(PAGE)
    assert "What do you open this patient for?" in clinician.text
    assert "Score" not in clinician.text
    assert clinician.get(f"{PAGE}/pictures/photograph").headers["content-type"].startswith("text/html")
    clinician.open(PAGE, "HQUALIMP")
    assert "Regions" in clinician.text
    event = audit_events(api)[-1]
    assert event["purposeOfEvent"][0]["coding"][0]["code"] == "HQUALIMP"
    assert event["agent"][0]["who"]["display"] == "clinician"
    kinds = {each["what"]["reference"].partition("/")[0] for each in event["entity"] if "what" in each}
    assert kinds == {"Patient", "Observation"}
    with transaction(api.pool) as connection:
        newest = ledger.entries(connection, SOP_UID)[-1]
    assert newest.event is LedgerEvent.VIEWED
    assert (newest.detail["by"], newest.detail["purpose"]) == ("clinician", "HQUALIMP")
    clinician.get(PAGE)
    assert "clinician" in clinician.text[clinician.text.index("Who saw it") :]


@pytest.mark.parametrize("purpose", ["", "FUN"])
def test_no_purpose_opens_nothing(context: Context, clinician: Browser, purpose: str) -> None:
    carry(context)
    clinician.get(PAGE)
    assert clinician.send("/purpose", {"purpose": purpose, "patient": "x", "next": PAGE}).status_code == 400
    assert "What do you open this patient for?" in clinician.get(PAGE).text


def test_another_session_is_asked_again(api: Api, context: Context, clinician: Browser) -> None:
    carry(context)
    clinician.open(PAGE)
    other = Browser(api)
    other.log_in("clinician")
    other.get(PAGE)
    assert "What do you open this patient for?" in other.text


def test_the_heatmap_lies_pixel_for_pixel_on_the_photograph(context: Context, clinician: Browser) -> None:
    carry(context)
    clinician.open(PAGE)
    sizes = {}
    for kind in ("photograph", "painted", "legend", "counterpart"):
        answer = clinician.get(f"{PAGE}/pictures/{kind}")
        assert answer.headers["content-type"] == "image/jpeg", kind
        sizes[kind] = Image.open(BytesIO(answer.content)).size
    assert sizes["photograph"] == sizes["painted"] == (COLUMNS, ROWS)
    assert sizes["counterpart"] == (16, 16)
    painted = np.asarray(Image.open(BytesIO(clinician.get(f"{PAGE}/pictures/painted").content)), float)
    assert np.abs(painted - pixels(ROWS, COLUMNS)).mean() < 12, "it is the photograph's part of the picture"
    assert clinician.get(f"{PAGE}/pictures/nothing").status_code == 404


def test_a_rejected_photograph_says_why(context: Context, clinician: Browser) -> None:
    carry(context, rejected())
    clinician.open(PAGE)
    assert "could not be judged" in clinician.text
    assert 'data-layer="painted"' not in clinician.page.text
    assert clinician.get(f"{PAGE}/pictures/painted").status_code == 404


def test_a_photograph_without_a_result_yet_is_shown(context: Context, clinician: Browser, api: Api) -> None:
    stored = api.store.put(photograph())
    from tests.records import offered

    with transaction(api.pool) as connection:
        instances.receive(connection, replace(offered(SOP_UID, stored.sha256), patient_id="P-001"))
    clinician.open(PAGE)
    assert "There is no result yet." in clinician.text


def test_names_with_markup_are_only_text(api: Api, context: Context, clinician: Browser) -> None:
    carry(context, name=HOSTILE)
    for page in (clinician.get("/worklist"), clinician.open(PAGE)):
        assert "&lt;script&gt;alert(1)" in page.text
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text
    add_user(api, '"><script>alert(3)</script>', Role.CLINICIAN)
    other = Browser(api)
    other.log_in('"><script>alert(3)</script>')
    assert "<script>alert" not in other.open(PAGE).text
    other.get(PAGE)
    assert "<script>alert" not in other.page.text


def test_a_result_is_taken_back_with_a_reason(api: Api, context: Context, clinician: Browser) -> None:
    instance_id = carry(context)
    with transaction(api.pool) as connection:
        (saved,) = appraisals.for_instance(connection, instance_id)
    result = str(saved.appraisal.appraisal_id)
    clinician.open(PAGE)
    assert clinician.send(f"{PAGE}/withdraw", {"result": result, "reason": " "}).status_code == 400
    clinician.get(PAGE)
    assert clinician.send(f"{PAGE}/withdraw", {"result": "x", "reason": "of another"}).status_code == 404
    clinician.get(PAGE)
    clinician.send(f"{PAGE}/withdraw", {"result": result, "reason": "eyes closed <b>"})
    assert "This result was taken back." in clinician.text
    with transaction(api.pool) as connection:
        stored = fhir_resources.read(connection, "Observation", observation_id_of(result))
        events = [each.event for each in ledger.entries(connection, SOP_UID)]
    assert stored is not None
    assert loads(stored.body)["status"] == "entered-in-error"
    assert LedgerEvent.ACTED in events
    assert any("withdraw" in queried(each) for each in audit_events(api))


def test_only_who_may_takes_a_result_back(api: Api, context: Context) -> None:
    carry(context)
    quality = Browser(api)
    quality.log_in("quality")
    quality.open(PAGE)
    assert "Take it back" not in quality.text
    assert quality.send(f"{PAGE}/withdraw", {"result": "x", "reason": "not mine"}).status_code == 403


def test_what_was_given_up_is_taken_up_again_by_who_runs_it(api: Api, context: Context) -> None:
    instance_id = judge(context, shown(context))
    with transaction(api.pool) as connection:
        instances.set_state(connection, instance_id, InstanceState.DEAD)
        dead_letters.add(
            connection, instance_id=instance_id, step=APPRAISE.task, error="it fell", traceback=""
        )
    admin = Browser(api)
    admin.log_in("admin")
    admin.get("/worklist?show=dead")
    assert SOP_UID in admin.text
    assert "P-001" not in admin.text, "who runs it sees no patient"
    assert "/thumbnails/" not in admin.page.text
    admin.send(f"{PAGE}/retry", {})
    assert "Nothing was given up." in admin.text
    with transaction(api.pool) as connection:
        assert instances.get(connection, instance_id).state is InstanceState.RECEIVED
    admin.get("/worklist")
    assert admin.send(f"{PAGE}/retry", {}).status_code == 409


def test_each_number_of_today_opens_its_list(api: Api, context: Context, clinician: Browser) -> None:
    carry(context)
    clinician.get("/")
    assert "1 Arrived" in clinician.text
    with transaction(api.pool) as connection:
        counted = today.counts(connection, today.midnight(clinician_zone(api)))
    for show, number in counted.items():
        page = clinician.get(f"/worklist?show={show}").text
        assert page.count(f'href="/ui{PAGE}"') == number, show


def clinician_zone(api: Api):
    from zoneinfo import ZoneInfo

    return ZoneInfo(api.settings.timezone)


def test_the_list_is_filtered_and_goes_on(api: Api, context: Context, clinician: Browser) -> None:
    from tests.records import offered

    with transaction(api.pool) as connection:
        for number in range(30):
            instances.receive(
                connection, replace(offered(f"1.2.{number}"), calling_ae_title=f"CAM{number % 2}")
            )
    first = clinician.get("/worklist").text
    assert first.count("/photographs/1.2.") == 25
    older = first[first.index("before=") :].partition('"')[0].replace("&amp;", "&")
    rest = clinician.get(f"/worklist?{older}").text
    assert rest.count("/photographs/1.2.") == 5
    assert clinician.get("/worklist?sender=CAM1").text.count("/photographs/1.2.") == 15
    assert "Nothing is on this list." in clinician.get("/worklist?sender=CAM9").text
    assert "Nothing is on this list." in clinician.get("/worklist?until=2020-01-01").text
    assert "Nothing is on this list." in clinician.get("/worklist?method=none").text
    assert clinician.get("/worklist?since=2020-01-01&show=arrived").text.count("/photographs/1.2.") == 25


def test_the_search_for_a_patient_keeps_the_number_out_of_addresses(
    api: Api, context: Context, clinician: Browser
) -> None:
    carry(context)
    clinician.get("/worklist")
    answer = clinician.send("/find", {"number": "P-001", "issuer": "HOSPITAL-A"}, follow=False)
    assert answer.status_code == 303
    assert "P-001" not in answer.headers["location"]
    assert answer.headers["location"].startswith("/ui/patients/")
    event = audit_events(api)[-1]
    assert "P-001" in queried(event), "the audit trail says what was looked for"
    with transaction(api.pool) as connection:
        (newest, *_) = ledger.latest(connection, 1)
    assert "P-001" not in str(newest.detail), "and the ledger has no patient data"
    clinician.get("/worklist")
    assert clinician.send("/find", {"number": "P-999"}).status_code == 404


def test_thumbnails_are_made_once_and_small(context: Context, clinician: Browser, api: Api) -> None:
    carry(context)
    first = clinician.get(f"/thumbnails/{SOP_UID}")
    assert max(Image.open(BytesIO(first.content)).size) <= 96
    made = list((api.settings.storage_dir / "renditions").glob("??/*"))
    assert clinician.get(f"/thumbnails/{SOP_UID}").content == first.content
    assert list((api.settings.storage_dir / "renditions").glob("??/*")) == made
    assert len(made) == 1


def test_counts_name_every_list() -> None:
    assert {*today.COUNTED, Show.ALL} == set(Show)
