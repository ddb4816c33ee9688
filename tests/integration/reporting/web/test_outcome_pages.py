"""Cohorts, charts with their evidence, decisions, phases, audit and system, over five simulated years."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator

import pytest

from reporting.fhir.http import Api
from reporting.http.server import make_api
from reporting.outcomes.database import changes, pairs, phases, signals
from reporting.outcomes.simulation.world import SURGEONS, simulate
from reporting.outcomes.simulation.writing import CODE, pair_all, write_world
from reporting.web.database import cohorts
from reporting.web.database.trail import Wanted, page
from reporting.web.people import Role
from service.database import ledger
from service.database.pool import transaction
from service.records import LedgerEvent
from service.stack.servers import EmbeddedPostgres
from tests.conftest import cloned_database, settings_of
from tests.integration.reporting.web.browsing import BASE, Browser, add_user

WINDOW = "6 months"


@pytest.fixture(scope="module")
def api(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """With the simulation in its database, and a user of each role."""
    with cloned_database(postgres) as url:
        settings = settings_of(url, tmp_path_factory.mktemp("web")).model_copy(
            update={"web_login": "passcode", "api_base_url": f"{BASE}/fhir", "timezone": "Europe/Berlin"}
        )
        made = make_api(settings)
        with transaction(made.pool) as connection:
            write_world(connection, simulate(20))
            pair_all(connection, settings)
        for role in Role:
            add_user(made, role.value, role)
        yield made
        made.close()


@pytest.fixture
def quality(api: Api) -> Browser:
    return logged_in(api, Role.QUALITY)


def logged_in(api: Api, role: Role) -> Browser:
    browser = Browser(api)
    browser.log_in(role.value)
    return browser


def phase_of(api: Api) -> str:
    with transaction(api.pool) as connection:
        newest = phases.newest(connection)
    assert newest is not None
    return newest.phase


def saved(browser: Browser, api: Api, **more: str) -> str:
    """Path of a cohort that was saved by its form."""
    browser.get("/cohorts")
    fields = {
        "code": CODE,
        "window": WINDOW,
        "region": "face",
        "phase": phase_of(api),
        "title": "Lips",
        **more,
    }
    answer = browser.send("/cohorts", fields, follow=False)
    assert answer.status_code == 303, browser.text
    path = answer.headers["location"].removeprefix("/ui")
    browser.get(path)
    return path


def test_a_cohort_has_an_id_and_its_address_names_no_patient(api: Api, quality: Browser) -> None:
    path = saved(quality, api, phenotype="CP", youngest="0.25", site="Simulated West")
    assert re.fullmatch(r"/cohorts/[0-9a-f-]{36}", path)
    assert "Simulated West, CP, from 0.25 years" in quality.text
    assert "Lips" in quality.get("/cohorts").text


@pytest.mark.parametrize(
    "wrong",
    [
        {"code": "1"},
        {"window": "never"},
        {"phase": "x"},
        {"region": "knee"},
        {"site": "Nowhere"},
        {"surgeon": "S-000000"},
        {"surgeon": SURGEONS[0]},
        {"youngest": "old"},
        {"oldest": "-1"},
        {"oldest": "nan"},
        {"since": "2020-02-30"},
        {"since": "2021-01-01", "until": "2020-01-01"},
    ],
)
def test_what_is_no_choice_is_refused(api: Api, quality: Browser, wrong: dict[str, str]) -> None:
    quality.get("/cohorts")
    fields = {"code": CODE, "window": WINDOW, "region": "face", "phase": phase_of(api), **wrong}
    assert quality.send("/cohorts", fields).status_code == 400


def test_a_chart_stands_beside_its_denominators_and_each_point_opens_its_evidence(
    api: Api, quality: Browser
) -> None:
    path = saved(quality, api)
    with transaction(api.pool) as connection:
        cohort = cohorts.newest(connection)[0]
        counted = changes.denominators(connection, cohort.selection)
        table = changes.table(connection, cohort.selection)
    assert f"eligible {counted.eligible}" in quality.text
    assert f"no photograph after {counted.missing_after}" in quality.text
    links = re.findall(r'<a href="/ui(/cohorts/[^"]+/point[^"]+)"', quality.page.text)
    assert len(links) > 24
    total = 0
    for link in links:
        quality.get(link.replace("&amp;", "&"))
        total += len(re.findall(r'<a href="/ui/patients/', quality.page.text))
    assert total == len(table), "every valid change is under one point"
    assert path in quality.page.text


@pytest.mark.parametrize("kind", ["run", "p", "time"])
def test_every_kind_of_chart_is_drawn(api: Api, quality: Browser, kind: str) -> None:
    quality.get(f"{saved(quality, api)}?chart={kind}")
    assert '<svg class="chart"' in quality.page.text
    assert "Of whom this speaks" in quality.text


def test_a_funnel_asks_for_its_risk_model_which_is_fitted_with_a_reason(api: Api, quality: Browser) -> None:
    path = saved(quality, api, region="nose")
    quality.get(f"{path}?chart=funnel")
    assert "It needs a risk model" in quality.text
    assert quality.send(f"{path}/risk", {"reason": ""}).status_code == 400
    quality.get(f"{path}?chart=funnel")
    quality.send(f"{path}/risk", {"reason": "yearly audit"})
    assert "Change beyond expectation by site" in quality.text
    quality.get(f"{path}?chart=cusum&name=Simulated+West")
    assert "RA-CUSUM" in quality.text
    clinician = logged_in(api, Role.CLINICIAN)
    assert "Change beyond expectation" in clinician.get(f"{path}?chart=funnel").text
    clinician.get("/worklist")
    assert clinician.send(f"{path}/risk", {"reason": "not mine"}).status_code == 403


def test_results_by_surgeon_need_a_role_and_a_reason_and_name_nobody(api: Api, quality: Browser) -> None:
    path = saved(quality, api)
    quality.get(f"{path}?chart=funnel&by=surgeon")
    assert "need a reason" in quality.text
    quality.get(f"{path}?chart=funnel")
    if "It needs a risk model" in quality.text:
        quality.send(f"{path}/risk", {"reason": "yearly audit"})
    quality.get(f"{path}?chart=funnel&by=surgeon&why=outlier+review")
    assert "S-" in quality.text
    assert not [each for each in SURGEONS if each in quality.page.text]
    with transaction(api.pool) as connection:
        row = connection.execute(
            "SELECT author, reason FROM access_reason ORDER BY access_reason_id DESC LIMIT 1"
        ).fetchone()
    assert row == {"author": "quality", "reason": "outlier review"}
    (name,) = set(re.findall(r"\bS-[0-9A-F]{6}\b", quality.page.text)) and {
        re.findall(r"\bS-[0-9A-F]{6}\b", quality.page.text)[0]
    }
    quality.get(f"{path}?chart=cusum&by=surgeon&name={name}&why=outlier+review")
    assert f"RA-CUSUM and VLAD of {name}" in quality.text
    assert not [each for each in SURGEONS if each in quality.page.text]
    quality.get(f"{path}/chart.csv?chart=funnel&by=surgeon&why=outlier+review")
    assert not [each for each in SURGEONS if each in quality.page.text]
    for role in (Role.CLINICIAN, Role.AUDITOR):
        other = logged_in(api, role)
        assert other.get(f"{path}?chart=funnel&by=surgeon&why=curious").status_code == 403
        other.get("/cohorts")
        assert "S-" not in other.text


def test_who_may_not_see_patients_sees_no_small_number_and_no_evidence(api: Api, quality: Browser) -> None:
    path = saved(quality, api, phenotype="CP", site="Simulated West", until="2020-06-30")
    whole = quality.get(f"{path}/chart.csv").text
    auditor = logged_in(api, Role.AUDITOR)
    auditor.get(path)
    assert "/point?" not in auditor.page.text
    assert auditor.get(f"{path}/point?at=0.2020-01").status_code == 403
    shown = list(csv.DictReader(io.StringIO(auditor.get(f"{path}/chart.csv").text)))
    assert {row["evidence"] for row in shown} == {""}
    small = [row for row in csv.DictReader(io.StringIO(whole)) if int(row["cases"]) < 5]
    assert small, "the cohort has months of few cases"
    assert {row["value"] for row in shown if row["label"] in {each["label"] for each in small}} == {""}


def test_exports_are_written_down(api: Api, quality: Browser) -> None:
    path = saved(quality, api)
    rows = list(csv.DictReader(io.StringIO(quality.get(f"{path}/chart.csv").text)))
    assert len(rows) > 24
    assert quality.page.headers["content-disposition"].startswith("attachment")
    assert quality.get(f"{path}/report.pdf").content.startswith(b"%PDF")
    with transaction(api.pool) as connection:
        told = [each.event for each in ledger.latest(connection, 2)]
    assert told == [LedgerEvent.EXPORTED] * 2


@pytest.mark.parametrize(
    "path", ["/cohorts/x", "/cohorts/5951c60c-03b1-437e-8457-a8c7c11ebab3", "/cohorts/x/point"]
)
def test_a_cohort_that_is_not_there_is_not_found(quality: Browser, path: str) -> None:
    assert quality.get(path).status_code == 404


def test_a_point_that_is_not_there_is_not_found(api: Api, quality: Browser) -> None:
    assert quality.get(f"{saved(quality, api)}/point?at=0.1999-01").status_code == 404


def test_a_patient_over_time_has_regions_changes_and_operations(api: Api, quality: Browser) -> None:
    with transaction(api.pool) as connection:
        row = connection.execute(
            "SELECT patient FROM outcome_change WHERE valid AND region = 'face'"
            " AND verdict = 'better' LIMIT 1"
        ).fetchone()
    assert row is not None
    quality.open(f"/patients/{row['patient']}", "HQUALIMP")
    assert quality.page.text.count('<svg class="small"') == 3
    assert 'class="band"' in quality.page.text, "the method's repeatability is known"
    assert "better" in quality.text
    assert f"Operation {CODE}" in quality.text
    assert not [each for each in SURGEONS if each in quality.page.text]
    dots = re.findall(r'<a href="/ui/photographs/([^"]+)" aria-label="face', quality.page.text)
    assert len(dots) == 2
    quality.get(f"/patients/{row['patient']}?before={dots[1]}&after={dots[0]}")
    assert f'value="{dots[1]}" selected' in quality.page.text
    assert quality.get("/patients/nobody").status_code == 404


def test_a_conflict_is_decided_with_a_reason(api: Api, quality: Browser) -> None:
    with transaction(api.pool) as connection:
        found = pairs.open_conflicts(connection, 1)[0]
    place = f"/conflicts/{found.conflict_id}"
    uid = found.sop_instance_uids[0]
    fields = {"photograph": uid, "window": found.window or "before", "reason": "the date was mistyped"}
    quality.get("/conflicts")
    assert uid in quality.page.text
    for wrong in ({"reason": ""}, {"photograph": ""}, {"window": "never"}, {"photograph": "1.2.3"}):
        quality.get("/conflicts")
        expected = 409 if wrong.get("photograph") else 400
        if "window" in wrong and found.window:
            continue
        assert quality.send(place, {**fields, **wrong}).status_code == expected
    quality.get("/conflicts")
    assert quality.send(place, fields).status_code == 200
    with transaction(api.pool) as connection:
        decided = pairs.decisions_of(connection, [found.case_id])
        (newest, *_) = page(connection, Wanted(who="quality", event="acted"))
    assert [each.reason for each in decided[found.case_id].values()] == ["the date was mistyped"]
    assert newest.sop_instance_uid == uid
    for gone in ("x", "5951c60c-03b1-437e-8457-a8c7c11ebab3"):
        quality.get("/conflicts")
        assert quality.send(f"/conflicts/{gone}", fields).status_code == 409
    clinician = logged_in(api, Role.CLINICIAN)
    assert clinician.get("/conflicts").status_code == 403


def test_phases_notes_and_signals_are_written_by_whom(api: Api, quality: Browser) -> None:
    quality.get(saved(quality, api))  # draws, and finds signals
    quality.get("/phases")
    assert (
        quality.send("/phases", {"day": "2022-01-01", "reason": "new camera", "code": ""}).status_code == 200
    )
    assert "new camera" in quality.text
    assert quality.send("/phases", {"day": "2022-01-01", "reason": "again", "code": ""}).status_code == 409
    quality.get("/phases")
    assert quality.send("/notes", {"day": "x", "reason": "flood"}).status_code == 400
    quality.get("/phases")
    quality.send("/notes", {"day": "2022-03-01", "reason": "flood in theatre 2", "code": CODE})
    assert "flood in theatre 2" in quality.text
    with transaction(api.pool) as connection:
        signal = signals.newest(connection, 1)[0]
    quality.send(f"/signals/{signal.signal_id}", {"reason": "looked into"})
    with transaction(api.pool) as connection:
        seen = next(each for each in signals.newest(connection) if each.signal_id == signal.signal_id)
    assert (seen.acknowledged_by, seen.reason) == ("quality", "looked into")
    quality.get("/phases")
    assert quality.send("/signals/x", {"reason": "looked into"}).status_code == 404


def test_the_audit_trail_is_searched_by_person_photograph_event_and_day(api: Api, quality: Browser) -> None:
    with transaction(api.pool) as connection:
        row = connection.execute("SELECT sop_instance_uid AS uid FROM instance LIMIT 1").fetchone()
    assert row is not None
    quality.open(f"/photographs/{row['uid']}", "HQUALIMP")
    auditor = logged_in(api, Role.AUDITOR)
    auditor.get(f"/audit?who=quality&event=viewed&uid={row['uid']}")
    assert "purpose HQUALIMP" in auditor.text
    assert "Nothing is on this list." in auditor.get(f"/audit?who=admin&uid={row['uid']}").text
    assert "Nothing is on this list." in auditor.get("/audit?until=2019-12-31").text
    assert auditor.get("/audit?since=soon").status_code == 400
    auditor.get("/audit")
    assert "before=" in auditor.page.text
    assert quality.get("/audit").status_code == 403


def test_the_system_is_for_who_runs_it(api: Api, quality: Browser) -> None:
    admin = logged_in(api, Role.ADMIN)
    admin.get("/system")
    assert "symmetry" in admin.text
    assert "Quality of the test" in admin.text
    assert "SIM-" not in admin.text
    assert admin.send("/system/retry", {}).status_code == 409
    assert quality.get("/system").status_code == 403


def test_values_are_found_without_reading_every_row(api: Api) -> None:
    with transaction(api.pool) as connection:
        found = cohorts.choices(connection)
        sites = connection.execute("SELECT DISTINCT site FROM outcome_state ORDER BY 1").fetchall()
        windows = connection.execute("SELECT DISTINCT window_name FROM outcome_state ORDER BY 1").fetchall()
    assert found["sites"] == [row["site"] for row in sites]
    assert found["codes"] == [CODE]
    assert len(found["surgeons"]) == len(SURGEONS)
    assert found["windows"] == [row["window_name"] for row in windows]
