"""Children are ready when they say so, come back when they die, and end when told."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.errors import StackError
from service.stack.supervisor import ChildSpec, Supervisor
from tests.waiting import wait_until

READY = """
import json, signal, sys, threading
ended = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ended.set())
print("words before", flush=True)
print(json.dumps({"event": "ready", "port": 7, "arguments": " ".join(sys.argv[1:])}), flush=True)
ended.wait()
print("ended in good order", flush=True)
"""
DIES = "import sys; sys.exit('no such thing')"
STUBBORN = READY.replace("lambda *_: ended.set()", "signal.SIG_IGN")


@pytest.fixture
def module(tmp_path: Path) -> Callable[[str, str], tuple[str, ...]]:
    """Writes a module; answers the command that runs it."""

    def write(name: str, source: str) -> tuple[str, ...]:
        (tmp_path / f"{name}.py").write_text(source)
        return (sys.executable, "-m", name)

    return write


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    made = Supervisor({**os.environ, "PYTHONPATH": str(tmp_path)}, log_dir=tmp_path / "log")
    yield made
    made.stop()


def test_a_child_says_it_is_ready_and_ends_in_good_order(
    supervisor: Supervisor, module: Callable[[str, str], tuple[str, ...]], tmp_path: Path
) -> None:
    supervisor.start(ChildSpec(name="one", command=(*module("ready_child", READY), "a", "b")))
    assert supervisor.wait_ready("one")["port"] == 7
    supervisor.stop()
    assert "ended in good order" in (tmp_path / "log" / "one.log").read_text()
    with pytest.raises(ProcessLookupError):
        os.kill(supervisor.pids["one"], 0)


def test_a_child_that_ends_before_it_is_ready(
    supervisor: Supervisor, module: Callable[[str, str], tuple[str, ...]]
) -> None:
    supervisor.start(ChildSpec(name="one", command=module("dying_child", DIES)))
    with pytest.raises(StackError, match="no such thing"):
        supervisor.wait_ready("one")


def test_a_child_that_is_never_ready(
    supervisor: Supervisor, module: Callable[[str, str], tuple[str, ...]]
) -> None:
    source = "import threading; print('still at it', flush=True); threading.Event().wait()"
    supervisor.start(ChildSpec(name="one", command=module("silent_child", source)))
    with pytest.raises(StackError, match="not ready after"):
        supervisor.wait_ready("one", timeout_s=0.3)


def test_a_killed_child_comes_back_with_its_pinned_arguments(
    supervisor: Supervisor, module: Callable[[str, str], tuple[str, ...]]
) -> None:
    supervisor.start(ChildSpec(name="one", command=module("ready_child", READY)))
    supervisor.wait_ready("one")
    supervisor.pin("one", (*module("ready_child", READY), "--port", "7"))
    watcher = threading.Thread(target=supervisor.watch)
    watcher.start()
    killed = supervisor.pids["one"]
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: supervisor.pids["one"] != killed, timeout_s=30, what="a new child")
    assert supervisor.wait_ready("one")["arguments"] == "--port 7"
    supervisor.request_stop()
    watcher.join(30)
    assert not watcher.is_alive()


def test_a_child_that_keeps_dying_is_given_up(
    supervisor: Supervisor, module: Callable[[str, str], tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.stack.supervisor._MAX_DEATHS", 1)
    supervisor.start(ChildSpec(name="one", command=module("dying_child", DIES)))
    with pytest.raises(StackError, match="died 2 times"):
        supervisor.watch()


def test_a_stubborn_child_is_killed(
    supervisor: Supervisor, module: Callable[[str, str], tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.stack.supervisor._STOP_TIMEOUT_S", 0.2)
    supervisor.start(ChildSpec(name="one", command=module("stubborn_child", STUBBORN)))
    supervisor.wait_ready("one")
    supervisor.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(supervisor.pids["one"], 0)


def test_children_run_this_python(
    supervisor: Supervisor, module: Callable[[str, str], tuple[str, ...]]
) -> None:
    source = "import json, sys; print(json.dumps({'event': 'ready', 'python': sys.executable}))"
    supervisor.start(ChildSpec(name="one", command=module("which_python", source)))
    assert supervisor.wait_ready("one")["python"] == sys.executable
