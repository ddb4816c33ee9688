"""Re-rating survives kills and lost messages, and is done once however many work at it."""

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

from reporting.report import report_again
from service.commands.main import app
from service.database import instances
from service.database.pool import transaction
from service.pipeline.again.rerate import rerate
from service.pipeline.again.rerate_due import ask_to_rerate
from service.pipeline.context import Context
from service.steps import REPORT_AGAIN, RERATE
from service.storage.local import InstanceStore
from tests.integration.service.pipeline.rerating import (
    SHIPPED,
    RatingProcess,
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
from tests.waiting import wait_until

UID = "2.25.11"
NEW = "symmetry-ratings-linear-a"


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
