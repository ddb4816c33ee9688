"""A new calibration does not break a series: ratings are amended, scores stay, both ratings are shown."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from dicom_node.encoding.photographic import encode
from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.render import loads
from reporting.identifiers import observation_id_of
from reporting.report import report_again
from service.commands.main import app
from service.config import Settings
from service.database import appraisals, instances, ledger, outbox, reratings
from service.database.delivery import deliveries
from service.database.pool import Pool, transaction
from service.pipeline.appraise import appraise
from service.pipeline.attempt import Outcome, attempt
from service.pipeline.celery_app import make_app, prepare_tasks
from service.pipeline.context import Context
from service.pipeline.rerate import put_in_force, rerate
from service.pipeline.rerate_due import ask_to_rerate
from service.records import InstanceState, LedgerEvent, SavedAppraisal
from service.steps import APPRAISE, REPORT, REPORT_AGAIN, RERATE
from service.storage.local import InstanceStore
from tests.integration.receiving import receive
from tests.integration.reporting.judging import DESTINATIONS
from tests.integration.service.pipeline.rerating import (
    SHIPPED,
    RatingProcess,
    calibrated,
    issued,
    messages,
    work,
    workers,
)
from tests.photographs import photograph
from tests.waiting import wait_until

UID = "2.25.11"
NEW = "symmetry-ratings-linear-a"


@pytest.fixture
def context(settings: Settings, pool: Pool, store: InstanceStore) -> Context:
    configured = settings.model_copy(
        update={"destinations": DESTINATIONS[:1], "timezone": "Europe/Berlin", "step_max_attempts": 2}
    )
    return workers(Context(settings=configured, pool=pool, store=store), None)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return calibrated(tmp_path / "site")


def result(context: Context, instance_id: int) -> SavedAppraisal:
    with transaction(context.pool) as connection:
        (saved,) = appraisals.for_instance(connection, instance_id)
    return saved


def versions(context: Context, saved: SavedAppraisal) -> list[dict[str, Any]]:
    """Of the result's Observation, newest first."""
    name = observation_id_of(str(saved.appraisal.appraisal_id))
    with transaction(context.pool) as connection:
        found = fhir_resources.history(connection, "Observation", name, count=10)
    return [loads(each.body) for each in found]


def component(observation: dict[str, Any], code: str) -> float:
    (found,) = (each for each in observation["component"] if each["code"]["coding"][0]["code"] == code)
    return float(found["valueQuantity"]["value"])


def rated_lines(context: Context, uid: str = UID) -> list[dict[str, str]]:
    with transaction(context.pool) as connection:
        entries = ledger.entries(connection, uid)
    return [dict(each.detail) for each in entries if each.event is LedgerEvent.RERATED]


def progress(context: Context) -> reratings.Progress:
    with transaction(context.pool) as connection:
        (found,) = reratings.progress(connection)
    return found


def test_the_score_stays_and_rating_and_percentile_are_amended(context: Context, site: Path) -> None:
    before = result(context, issued(context))
    now = workers(context, site)
    work(now)
    after = result(now, before.instance_id)
    assert after.appraisal.appraisal_id == before.appraisal.appraisal_id
    assert after.appraisal.score == before.appraisal.score
    assert after.appraisal.method.calibration == NEW
    assert after.appraisal.rating != before.appraisal.rating
    newest, first = versions(now, after)
    assert (first["status"], newest["status"]) == ("final", "amended")
    assert (first["meta"]["versionId"], newest["meta"]["versionId"]) == ("1", "2")
    assert first["valueQuantity"] == newest["valueQuantity"]
    assert first["device"] != newest["device"]
    assert component(first, "rating") == before.appraisal.rating
    assert component(newest, "rating") == pytest.approx(after.appraisal.rating)
    assert component(first, "percentile") == before.appraisal.percentile
    assert component(newest, "percentile") == pytest.approx(after.appraisal.percentile)
    (note,) = (each["text"] for each in newest["note"] if "Rated anew" in each["text"])
    assert NEW in note
    assert f"by calibration {SHIPPED} before: rating 5.50, percentile 61.0" in note
    assert "not comparable" in note
    assert NEW in newest["referenceRange"][0]["text"]


def test_the_ledger_shows_both_ratings(context: Context, site: Path) -> None:
    before = result(context, issued(context))
    now = workers(context, site)
    work(now)
    after = result(now, before.instance_id)
    (line,) = rated_lines(now)
    assert line["appraisal"] == str(before.appraisal.appraisal_id)
    assert (line["former_calibration"], line["calibration"]) == (SHIPPED, NEW)
    assert float(line["former_rating"]) == before.appraisal.rating
    assert float(line["rating"]) == pytest.approx(after.appraisal.rating, abs=1e-4)
    assert float(line["former_percentile"]) == before.appraisal.percentile


def test_what_was_sent_to_the_archive_stays_as_it_was(context: Context, site: Path) -> None:
    """DICOM objects keep UID and bytes, and name the calibration that they were rated by."""
    instance_id = issued(context)
    with transaction(context.pool) as connection:
        sent = deliveries.for_instance(connection, instance_id)
        held = connection.execute("SELECT * FROM held_pending ORDER BY sop_instance_uid").fetchall()
    now = workers(context, site)
    work(now)
    with transaction(now.pool) as connection:
        assert deliveries.for_instance(connection, instance_id) == sent
        assert connection.execute("SELECT * FROM held_pending ORDER BY sop_instance_uid").fetchall() == held
        heatmaps = connection.execute(
            "SELECT count(*) AS n FROM fhir_history WHERE type = 'Media'"
        ).fetchone()
    assert heatmaps == {"n": 0}
    assert sent


def test_run_again_it_changes_nothing(context: Context, site: Path) -> None:
    instance_id = issued(context)
    now = workers(context, site)
    assert work(now) == 2
    for _ in range(2):
        rerate(now, instance_id)
        report_again(now, instance_id)
        put_in_force(now)
    assert work(now) == 0
    assert len(versions(now, result(now, instance_id))) == 2
    assert len(rated_lines(now)) == 1
    assert (progress(now).requested, progress(now).done, progress(now).waiting) == (1, 1, 0)


def test_workers_at_once_rate_once(context: Context, site: Path) -> None:
    issued_ones = [issued(context, f"2.25.{20 + number}") for number in range(3)]
    now = workers(context, site)
    ask_to_rerate(now.pool, now.settings)
    assert sorted(messages(now)) == [(RERATE.task, each) for each in issued_ones]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda instance_id: rerate(now, instance_id), issued_ones * 4))
        list(threads.map(lambda instance_id: report_again(now, instance_id), issued_ones * 4))
    for number, instance_id in enumerate(issued_ones):
        assert len(rated_lines(now, f"2.25.{20 + number}")) == 1
        assert len(versions(now, result(now, instance_id))) == 2
    assert (progress(now).done, progress(now).failed) == (3, 0)


def test_relays_at_once_ask_once(context: Context, site: Path) -> None:
    for number in range(5):
        issued(context, f"2.25.{20 + number}")
    now = workers(context, site)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: ask_to_rerate(now.pool, now.settings), range(4)))
    asked = messages(now)
    assert len(asked) == len(set(asked)) == 5


def test_a_worker_killed_while_it_rates_leaves_nothing_by_half(context: Context, site: Path) -> None:
    instance_id = issued(context)
    now = workers(context, site)
    ask_to_rerate(now.pool, now.settings)
    messages(now)
    before = result(now, instance_id)
    with psycopg.connect(now.settings.database_url) as holding:
        holding.execute("LOCK TABLE outbox IN EXCLUSIVE MODE")  # where it writes last
        killed = RatingProcess(now.settings, instance_id)
        wait_until(lambda: is_waiting(holding), timeout_s=60, what="the worker to have rated and to wait")
        killed.kill()
    wait_until(lambda: not is_at_work(now), timeout_s=60, what="PostgreSQL to end its transaction")
    assert result(now, instance_id) == before
    assert rated_lines(now) == []
    lost(now)
    work(now)
    assert result(now, instance_id).appraisal.method.calibration == NEW
    assert len(rated_lines(now)) == 1
    assert len(versions(now, before)) == 2


def is_waiting(connection: psycopg.Connection[Any]) -> bool:
    return bool(connection.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone())


def is_at_work(context: Context) -> bool:
    with transaction(context.pool) as connection:
        row = connection.execute(
            "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database()"
            " AND state <> 'idle' AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        ).fetchone()
    return bool(row and row["n"])


def lost(context: Context) -> None:
    """What was asked for counts as lost: so long ago that the relay asks again."""
    with transaction(context.pool) as connection:
        connection.execute("UPDATE rerating SET asked_at = asked_at - interval '1 day'")


def test_a_report_that_was_lost_with_the_broker_is_asked_for_again(context: Context, site: Path) -> None:
    instance_id = issued(context)
    now = workers(context, site)
    ask_to_rerate(now.pool, now.settings)
    messages(now)
    rerate(now, instance_id)
    assert messages(now) == [(REPORT_AGAIN.task, instance_id)]  # and the broker loses it
    saved = result(now, instance_id)
    assert len(versions(now, saved)) == 1
    assert progress(now).waiting == 1
    lost(now)
    work(now)
    assert len(versions(now, saved)) == 2
    assert len(rated_lines(now)) == 1
    assert (progress(now).done, progress(now).waiting) == (1, 0)


class SlowStore:
    """A store whose disk has not answered yet."""

    def __init__(self, store: InstanceStore, slow: str) -> None:
        self._store, self._slow = store, slow
        self.asked, self.answers = threading.Event(), threading.Event()

    def read(self, sha256: str) -> bytes:
        if sha256 == self._slow:
            self.asked.set()
            assert self.answers.wait(60)
        return self._store.read(sha256)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def test_a_report_read_before_the_rating_is_not_saved_after_it(context: Context, site: Path) -> None:
    instance_id = issued(context)
    now = workers(context, site)
    ask_to_rerate(now.pool, now.settings)
    messages(now)
    with transaction(now.pool) as connection:
        photographed = instances.get(connection, instance_id).sha256
    slow = SlowStore(now.store, photographed)
    with ThreadPoolExecutor(1) as threads:
        late = threads.submit(report_again, replace(now, store=slow), instance_id)  # type: ignore[arg-type]
        assert slow.asked.wait(60)
        work(now)
        rerate(now, instance_id)
        report_again(now, instance_id)
        assert len(versions(now, result(now, instance_id))) == 2
        slow.answers.set()
        late.result(60)
    newest, first = versions(now, result(now, instance_id))
    assert component(newest, "rating") == pytest.approx(result(now, instance_id).appraisal.rating)
    assert component(first, "rating") == 5.5


def test_the_way_back_is_amended_too(context: Context, site: Path, tmp_path: Path) -> None:
    instance_id = issued(context)
    before = result(context, instance_id)
    work(workers(context, site))
    work(workers(context, calibrated(tmp_path / "b", "b", strictness=0.2)))
    now = workers(context, None)
    work(now)
    after = result(now, instance_id)
    assert after.appraisal.method.calibration == SHIPPED
    assert after.appraisal.score == before.appraisal.score
    found = versions(now, after)
    assert [each["status"] for each in found] == ["amended", "amended", "amended", "final"]
    assert [each["calibration"] for each in rated_lines(now)] == [NEW, NEW[:-1] + "b", SHIPPED]
    notes = [each["text"] for each in found[0]["note"] if "Rated anew" in each["text"]]
    assert len(notes) == 2
    assert all(f"Rated anew by calibration {SHIPPED}" in each for each in notes)


def test_a_calibration_that_is_replaced_meanwhile_is_not_followed(
    context: Context, site: Path, tmp_path: Path
) -> None:
    instance_id = issued(context)
    first = workers(context, site)
    ask_to_rerate(first.pool, first.settings)
    assert messages(first) == [(RERATE.task, instance_id)]
    second = workers(context, calibrated(tmp_path / "b", "b", strictness=0.2))
    rerate(first, instance_id)  # by a worker that has not been started again
    assert result(context, instance_id).appraisal.method.calibration == SHIPPED
    work(second)
    assert result(context, instance_id).appraisal.method.calibration == NEW[:-1] + "b"
    assert [each["calibration"] for each in rated_lines(context)] == [NEW[:-1] + "b"]


def test_other_methods_weights_and_settings_keep_their_rating_and_are_said(
    context: Context, site: Path
) -> None:
    alike = issued(context, "2.25.11")
    other = issued(context, "2.25.12", weights_sha256="d" * 64, calibration="symmetry-site-1")
    now = workers(context, site)
    work(now)
    assert result(now, alike).appraisal.method.calibration == NEW
    kept = result(now, other)
    assert kept.appraisal.method.calibration == "symmetry-site-1"
    assert kept.appraisal.rating == 5.5
    assert len(versions(now, kept)) == 1
    with transaction(now.pool) as connection:
        (found,) = reratings.not_comparable(connection)
    assert (found.calibration, found.results) == ("symmetry-site-1", 1)


def test_photographs_on_their_way_are_rated_once_they_are_reported(context: Context, site: Path) -> None:
    instance_id = issued(context)
    with transaction(context.pool) as connection:
        instances.set_state(connection, instance_id, InstanceState.APPRAISED)
    now = workers(context, site)
    assert work(now) == 0
    rerate(now, instance_id)  # a message that came late
    assert result(now, instance_id).appraisal.method.calibration == SHIPPED
    with transaction(context.pool) as connection:
        instances.set_state(connection, instance_id, InstanceState.DELIVERED)
    work(now)
    assert result(now, instance_id).appraisal.method.calibration == NEW


def test_photographs_that_were_taken_back_are_left_alone(context: Context, site: Path) -> None:
    instance_id = issued(context)
    with transaction(context.pool) as connection:
        instances.set_state(connection, instance_id, InstanceState.WITHDRAWN)
    now = workers(context, site)
    assert work(now) == 0
    rerate(now, instance_id)
    assert result(now, instance_id).appraisal.method.calibration == SHIPPED
    with transaction(context.pool) as connection:
        assert reratings.progress(connection) == []  # nobody waits for it
        instances.set_state(connection, instance_id, InstanceState.DELIVERED)  # the note is lifted
    work(now)
    assert result(now, instance_id).appraisal.method.calibration == NEW


def test_results_of_pixels_that_were_replaced_are_left_alone(context: Context, site: Path) -> None:
    instance_id = issued(context)
    saved = result(context, instance_id).appraisal
    with transaction(context.pool) as connection:
        appraisals.supersede_others(connection, instance_id, "of other pixels")
    now = workers(context, site)
    assert work(now) == 0
    rerate(now, instance_id)
    with transaction(context.pool) as connection:
        assert appraisals.get(connection, saved.appraisal_id).appraisal == saved
        assert reratings.progress(connection) == []


def test_results_that_cannot_be_made_anew_are_given_up_and_taken_up_again(
    context: Context, site: Path
) -> None:
    instance_id = issued(context)
    now = workers(context, site)
    ask_to_rerate(now.pool, now.settings)
    for _ in range(3):  # two attempts whose report never comes, and the last word
        rerate(now, instance_id)
    messages(now)
    assert (progress(now).failed, progress(now).waiting) == (1, 0)
    assert work(now) == 0
    environment = {"SEMBLANCE_DATABASE_URL": now.settings.database_url}
    told = CliRunner().invoke(app, ["rerating"], env=environment)
    assert json.loads(told.stdout)["failed"] == 1
    again = CliRunner().invoke(app, ["rerating", "--retry"], env=environment)
    assert again.stdout == "1 results are taken up again\n"
    work(now)
    assert (progress(now).done, progress(now).failed) == (1, 0)
    status = CliRunner().invoke(app, ["status", "--output", "json"], env=environment)
    (shown,) = json.loads(status.stdout)["rerating"]
    assert (shown["calibration"], shown["requested"], shown["done"]) == (NEW, 1, 1)
    one = CliRunner().invoke(app, ["status", UID, "--output", "json"], env=environment)
    (line,) = json.loads(one.stdout)["appraisals"]
    assert (line["calibration"], line["former_ratings"]) == (NEW, {SHIPPED: 5.5})


def test_a_photograph_appraised_again_keeps_its_one_result(context: Context, site: Path) -> None:
    """By the same method under a new calibration: its result is rated anew, and there is no second one."""
    instance_id = receive(context, encode(photograph()))
    assert attempt(context, APPRAISE, appraise, instance_id) is Outcome.DONE
    first = result(context, instance_id)
    now = workers(context, site)
    with transaction(context.pool) as connection:
        instances.set_state(connection, instance_id, InstanceState.RECEIVED)
    assert attempt(now, APPRAISE, appraise, instance_id) is Outcome.DONE
    assert result(now, instance_id) == first
    with transaction(context.pool) as connection:
        instances.set_state(connection, instance_id, InstanceState.DELIVERED)
        assert (REPORT.task, str(instance_id)) in {
            (each.task, each.subject_id) for each in outbox.take_due(connection, 10)
        }
    ask_to_rerate(now.pool, now.settings)
    assert (RERATE.task, instance_id) in messages(now)
    rerate(now, instance_id)
    assert result(now, instance_id).appraisal.method.calibration == NEW


def test_a_result_by_a_worker_with_the_earlier_calibration_is_rated_by_the_one_in_force(
    context: Context, site: Path
) -> None:
    now = workers(context, site)
    assert work(now) == 0
    instance_id = receive(context, encode(photograph()))
    assert attempt(context, APPRAISE, appraise, instance_id) is Outcome.DONE  # not started again yet
    assert result(context, instance_id).appraisal.method.calibration == SHIPPED
    with transaction(context.pool) as connection:
        instances.set_state(connection, instance_id, InstanceState.DELIVERED)
    ask_to_rerate(now.pool, now.settings)
    assert (RERATE.task, instance_id) in messages(now)


def test_a_worker_that_starts_puts_its_calibration_in_force(context: Context, site: Path) -> None:
    instance_id = issued(context)
    chosen = {"method": "symmetry", "model_dir": site}
    application = make_app(context.settings.model_copy(update=chosen))
    try:
        prepare_tasks(application)
    finally:
        application.context.pool.close()
    ask_to_rerate(context.pool, context.settings)
    assert messages(context) == [(RERATE.task, instance_id)]


def test_a_method_without_a_calibration_asks_for_nothing(context: Context) -> None:
    issued(context)
    plain = replace(context, settings=context.settings.model_copy(update={"method": "symmetry+multiscale"}))
    put_in_force(plain)
    assert work(plain) == 0
