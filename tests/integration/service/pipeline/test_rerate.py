"""A new calibration does not break a series: ratings are amended, scores stay, both ratings are shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dicom_node.encoding.photographic import encode
from reporting.report import report_again
from service.appraisal.model_files.models import ModelStore
from service.appraisal.rerating import rater_of
from service.database import appraisals, dead_letters, instances, outbox, reratings
from service.database.delivery import deliveries
from service.database.pool import transaction
from service.pipeline.again.rerate import put_in_force, rerate
from service.pipeline.again.rerate_due import ask_to_rerate
from service.pipeline.appraise import appraise
from service.pipeline.attempt import Outcome, attempt
from service.pipeline.celery_app import make_app, prepare_tasks
from service.pipeline.context import Context
from service.records import InstanceState
from service.steps import APPRAISE, DELIVER, REPORT, RERATE, Step
from tests.integration.receiving import receive
from tests.integration.service.pipeline.rerating import (
    SHIPPED,
    calibrated,
    component,
    issued,
    lost,
    messages,
    progress,
    rated_lines,
    result,
    versions,
    work,
    workers,
)
from tests.photographs import photograph

UID = "2.25.11"
NEW = "symmetry-ratings-linear-a"


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


def test_after_a_change_of_method_what_waits_for_the_one_before_is_in_nobodys_way(
    context: Context, site: Path
) -> None:
    """Its results are not comparable any more; should it come back, they are rated as they were to be."""
    before = {"weights_sha256": "d" * 64, "calibration": "symmetry-site-1"}
    older, newer = issued(context, "2.25.11", **before), issued(context, "2.25.12")
    earlier = replace(rater_of("symmetry", ModelStore(site)).method, weights_sha256="d" * 64)
    with transaction(context.pool) as connection:
        assert reratings.put_in_force(connection, earlier)
    ask_to_rerate(context.pool, context.settings)
    assert messages(context) == [(RERATE.task, older)]
    now = workers(context, site)
    work(now)
    rerate(now, older)  # a message that came late: of the same calibration, and another method
    assert result(now, older).appraisal.method.calibration == "symmetry-site-1"
    assert result(now, newer).appraisal.method.calibration == NEW
    assert (progress(now).requested, progress(now).done) == (1, 1)
    with transaction(now.pool) as connection:
        (found,) = reratings.not_comparable(connection)
        assert (found.calibration, found.results) == ("symmetry-site-1", 1)
        reratings.put_in_force(connection, earlier)
    assert (progress(now).requested, progress(now).waiting) == (1, 1)
    lost(now)
    ask_to_rerate(now.pool, now.settings)
    assert messages(now) == [(RERATE.task, older)]


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


@pytest.mark.parametrize(("step", "calibration"), [(DELIVER, NEW), (REPORT, SHIPPED), (APPRAISE, SHIPPED)])
def test_of_photographs_that_were_given_up_those_with_results_are_rated(
    context: Context, site: Path, step: Step, calibration: str
) -> None:
    instance_id = issued(context)
    with transaction(context.pool) as connection:
        instances.set_state(connection, instance_id, InstanceState.DEAD)
        dead_letters.add(connection, instance_id=instance_id, step=step.task, error="E", traceback="")
    now = workers(context, site)
    work(now)
    assert result(now, instance_id).appraisal.method.calibration == calibration
    with transaction(context.pool) as connection:
        assert instances.get(connection, instance_id).state is InstanceState.DEAD


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
