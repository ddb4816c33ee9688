"""What an operator sees of destinations and studies, and what they can do about them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from service.commands.main import app
from service.database import appraisals, dead_letters, instances, outbox, studies
from service.database.delivery import deliveries, destinations
from service.database.pool import Pool, transaction
from service.errors import ConfigurationError
from service.peers import Destination
from service.pipeline.completeness import note_received
from service.records import BreakerState, DeliveryState, InstanceState, StudyState
from service.steps import DELIVER
from tests.records import judged, offered

Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str) -> Run:
    monkeypatch.chdir(tmp_path)
    pacs = Destination(name="pacs", ae_title="PACS", host="pacs.hospital.example", port=104)
    monkeypatch.setenv("SEMBLANCE_DATABASE_URL", database_url)
    monkeypatch.setenv("SEMBLANCE_DESTINATIONS", json.dumps([pacs.model_dump()]))

    def call(*arguments: str) -> str:
        done = CliRunner().invoke(app, list(arguments))
        if isinstance(done.exception, ConfigurationError):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.output

    return call


def deliver(pool: Pool, uid: str, destination: str) -> int:
    """A delivery that is due."""
    appraisal = judged()
    with transaction(pool) as connection:
        _, instance_id = instances.receive(connection, offered(uid))
        instances.set_state(connection, instance_id, InstanceState.REPORTED)
        appraisals.save(
            connection,
            instance_id=instance_id,
            appraisal=appraisal,
            heatmap_sha256="",
            difference_map_sha256="",
        )
        delivery_id = deliveries.add(
            connection,
            instance_id=instance_id,
            appraisal_id=appraisal.appraisal_id,
            destination=destination,
            sop_class_uid="1.2",
            sop_instance_uid=f"9.{uid}",
            sha256="a" * 64,
        )
        connection.execute("DELETE FROM outbox")
    assert delivery_id is not None
    return delivery_id


def give_up(pool: Pool, delivery_id: int) -> None:
    with transaction(pool) as connection:
        delivery = deliveries.get(connection, delivery_id)
        deliveries.mark_dead(connection, delivery_id, "0xA900")
        instances.set_state(connection, delivery.instance_id, InstanceState.DEAD)
        dead_letters.add(
            connection, instance_id=delivery.instance_id, step=DELIVER.task, error="0xA900", traceback="in f"
        )


def shown(run: Run, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("destinations", *arguments, "--output", "json"))
    return found


def test_a_destination_that_was_never_sent_to_is_shown(run: Run) -> None:
    (row,) = shown(run)["destinations"]
    assert (row["destination"], row["breaker"], row["node"]) == (
        "pacs",
        "closed",
        "PACS pacs.hospital.example:104",
    )
    assert (row["waiting"], row["dead"], row["answered"]) == (0, 0, None)


def test_state_counts_and_what_was_given_up_are_shown(run: Run, pool: Pool) -> None:
    deliver(pool, "1.1", "pacs")
    give_up(pool, deliver(pool, "1.2", "pacs"))
    deliver(pool, "1.3", "old-pacs")
    with transaction(pool) as connection:
        destinations.lock(connection, "pacs")
        destinations.failed(connection, "pacs", "no association")
        destinations.open_breaker(connection, "pacs", 60.0)
    found = shown(run)
    old, pacs = found["destinations"]
    assert (old["destination"], old["node"], old["waiting"]) == ("old-pacs", "not in these settings", 1)
    assert (pacs["breaker"], pacs["waiting"], pacs["dead"], pacs["failures"]) == ("open", 1, 1, 1)
    assert 50 <= pacs["next_probe_s"] <= 60
    assert pacs["last_error"] == "no association"
    assert found["dead"] == [{"destination": "pacs", "result": "9.1.2", "attempts": 0, "error": "0xA900"}]
    lines = run("destinations", "pacs").splitlines()
    assert any("9.1.2" in line for line in lines)
    assert max(map(len, lines)) <= 80
    assert "  failed 1 times in a row: no association" in lines


def test_a_probe_is_due_at_once(run: Run, pool: Pool) -> None:
    delivery_id = deliver(pool, "1.1", "pacs")
    with transaction(pool) as connection:
        destinations.lock(connection, "pacs")
        destinations.open_breaker(connection, "pacs", 600.0)
    (row,) = shown(run, "pacs", "--probe")["destinations"]
    assert (row["breaker"], row["next_probe_s"]) == (BreakerState.OPEN.value, 0)
    with transaction(pool) as connection:
        (message,) = outbox.take_due(connection, 10)
    assert (message.task, message.subject_id) == (DELIVER.task, str(delivery_id))


@pytest.mark.parametrize("arguments", [("nowhere",), ("nowhere", "--probe")])
def test_a_destination_nobody_knows_is_wrong_usage(run: Run, arguments: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match="nowhere"):
        run("destinations", *arguments)


def test_retry_by_destination_takes_up_that_one_alone(run: Run, pool: Pool) -> None:
    mine, other = deliver(pool, "1.1", "pacs"), deliver(pool, "1.2", "old-pacs")
    for each in (mine, other):
        give_up(pool, each)
    assert "1.1 goes back to" in run("retry", "--destination", "pacs")
    with transaction(pool) as connection:
        assert deliveries.get(connection, mine).state is DeliveryState.PENDING
        assert deliveries.get(connection, other).state is DeliveryState.DEAD
        (message,) = outbox.take_due(connection, 10)
    assert message.subject_id == str(mine)
    assert "nothing was given up" in run("retry", "--destination", "pacs")


def test_status_names_what_is_in_quarantine(run: Run, pool: Pool) -> None:
    with transaction(pool) as connection:
        for sha256 in ("a" * 64, "d" * 64):
            instances.receive(connection, offered("1.1", sha256=sha256))
    (found,) = json.loads(run("status", "--output", "json"))["quarantine"]
    assert (found["sop_instance_uid"], found["sha256"], found["calling_ae_title"]) == (
        "1.1",
        "d" * 64,
        "CAMERA",
    )
    assert "Quarantined" in run("status")


def test_status_shows_studies_and_what_of_them_is_missing(run: Run, pool: Pool) -> None:
    with transaction(pool) as connection:
        _, instance_id = instances.receive(connection, offered("1.1"))
        note_received(connection, [instance_id])
        studies.change(connection, "1.2.3.4", StudyState.INCOMPLETE, ["1.7"])
    found = json.loads(run("status", "--output", "json"))
    assert found["studies"] == {"open": 0, "complete": 0, "incomplete": 1, "quiet": 0}
    assert found["missing"] == [
        {"study_instance_uid": "1.2.3.4", "state": "incomplete", "sop_instance_uid": "1.7"}
    ]
    assert "Announced and missing" in run("status")
    study = json.loads(run("status", "1.2.3.4", "--output", "json"))
    assert (study["state"], study["missing"]) == ("incomplete", ["1.7"])
    assert [each["sop_instance_uid"] for each in study["photographs"]] == ["1.1"]
    assert "incomplete" in run("status", "1.2.3.4")


def test_a_destination_that_nobody_knows_is_not_retried(run: Run, pool: Pool) -> None:
    deliver(pool, "1.2.3", "former")
    assert "nothing was given up" in run("retry", "--destination", "pacs")
    assert "nothing was given up" in run("retry", "--destination", "former")
    with pytest.raises(ConfigurationError, match="no destination 'nowhere'; there are: former, pacs"):
        run("retry", "--destination", "nowhere")
