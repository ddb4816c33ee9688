"""Whether a process is ready, and whether its loop goes round."""

from __future__ import annotations

import http.client
import json
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service.config import Settings, load_settings
from service.errors import StackError
from service.operations.door import Facts, operations_door
from service.operations.readiness import (
    Check,
    Heartbeat,
    Readiness,
    database_check,
    port_check,
    store_check,
)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def settings_with_door(free_port: int, **more: object) -> Settings:
    return load_settings(operations_port=free_port, **more)


def answer(port: int, path: str) -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.getheader("Content-Type", ""), response.read().decode()


def test_a_loop_that_stands_still_is_late_until_it_beats() -> None:
    clock = Clock()
    heartbeat = Heartbeat(10, clock)
    clock.now_s += 10
    assert not heartbeat.is_late()
    clock.now_s += 0.5
    assert heartbeat.is_late()
    heartbeat.beat()
    assert heartbeat.silent_s() == 0
    assert not heartbeat.is_late()


def test_checks_are_asked_once_a_second_however_many_ask() -> None:
    clock, asked = Clock(), []
    readiness = Readiness([Check(name="counted", ask=lambda: asked.append(1))], clock)
    assert [readiness.failures() for _ in range(50)] == [{}] * 50
    assert len(asked) == 1
    clock.now_s += 1
    readiness.failures()
    assert len(asked) == 2


def test_all_that_fails_is_named_and_an_unforeseen_error_is_not_hidden() -> None:
    def refuse() -> None:
        raise StackError("the listener has ended")

    def lose() -> None:
        raise ConnectionRefusedError("nobody there")

    fine = Check(name="fine", ask=lambda: None)
    failing = [fine, Check(name="listener", ask=refuse), Check(name="peer", ask=lose)]
    assert Readiness(failing).failures() == {
        "listener": "StackError: the listener has ended",
        "peer": "ConnectionRefusedError: nobody there",
    }


def test_a_store_that_cannot_be_written_is_not_ready(tmp_path: Path) -> None:
    there = load_settings(storage_dir=tmp_path)
    store_check(there).ask()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        store_check(load_settings(storage_dir=tmp_path / "gone")).ask()


def test_a_port_is_tried_where_the_process_listens(free_port: Callable[[], int]) -> None:
    with pytest.raises(OSError, match="refused"):
        port_check("listener", "0.0.0.0", free_port()).ask()  # noqa: S104


def test_the_database_is_asked(database_url: str, empty_database_url: str) -> None:
    database_check(load_settings(database_url=database_url)).ask()
    for wrong in (empty_database_url, "postgresql://nobody@127.0.0.1:1/none"):
        assert "database" in Readiness([database_check(load_settings(database_url=wrong))]).failures()


def test_a_door_tells_of_life_readiness_and_metrics(free_port: Callable[[], int], tmp_path: Path) -> None:
    clock = Clock()
    failing: list[str] = []

    def ask() -> None:
        if failing:
            raise StackError(failing[0])

    heartbeat = Heartbeat(60, clock)
    facts = Facts(process="relay", checks=[Check(name="broker", ask=ask)], heartbeat=heartbeat)
    with operations_door(settings_with_door(free_port()), facts) as port:
        assert answer(port, "/healthz")[::2] == (200, '{"status": "ok"}\n')
        assert json.loads(answer(port, "/readyz")[2])["status"] == "ready"
        failing.append("no broker")
        time.sleep(1.1)
        status, _, said = answer(port, "/readyz")
        assert status == 503
        assert json.loads(said)["failed"] == {"broker": "StackError: no broker"}
        assert answer(port, "/healthz")[0] == 200  # not ready is not dead
        clock.now_s += 61
        assert answer(port, "/healthz")[0] == 503
        status, media_type, metrics = answer(port, "/metrics")
        assert status == 200
        assert media_type.startswith("text/plain; version=")
        assert "semblance_step_seconds" in metrics
        assert answer(port, "/admin")[0] == 404
    with pytest.raises(ConnectionRefusedError):
        answer(port, "/healthz")


def test_a_door_without_a_port_stays_closed() -> None:
    before = threading.active_count()
    with operations_door(load_settings(operations_port=0), Facts(process="relay", checks=[])) as port:
        assert port == 0
        assert threading.active_count() == before


def test_probing_leaves_the_mode_of_the_store_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    store_check(load_settings(storage_dir=tmp_path)).ask()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
