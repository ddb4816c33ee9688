"""The node as processes: one, several on one port, stopped, killed."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psutil
import pytest
from pydicom.uid import ImplicitVRLittleEndian

from dicom_node.readers import VERIFICATION
from service.commands.program import PROGRAM
from service.config import Settings
from service.stack.waiting import wait_until
from tests import dicom_objects
from tests.dicom_objects import associate, photograph


@contextmanager
def running(
    settings: Settings, processes: int, more: Mapping[str, str] | None = None
) -> Iterator[tuple[int, psutil.Process]]:
    """A node as a process of its own; its port, and the process."""
    environment = os.environ | {
        "SEMBLANCE_DATABASE_URL": settings.database_url,
        "SEMBLANCE_STORAGE_DIR": str(settings.storage_dir),
        "SEMBLANCE_STORAGE_LOW_WATERMARK_BYTES": "0",
        "SEMBLANCE_DICOM_HOST": "127.0.0.1",
        "SEMBLANCE_DICOM_PORT": "0",
        "SEMBLANCE_DICOM_PROCESSES": str(processes),
        **(more or {}),
    }
    with subprocess.Popen(
        [*PROGRAM, "node"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        assert (said["event"], said["process"]) == ("ready", "node")
        yield said["port"], psutil.Process(process.pid)
        if process.poll() is None:
            process.terminate()
            assert process.wait(30) == 0


def echoes(port: int) -> bool:
    association = associate(port, (VERIFICATION, ImplicitVRLittleEndian))
    if not association.is_established:
        return False
    status = association.send_c_echo()
    association.release()
    return bool(status) and status.Status == 0


def is_connected(process: psutil.Process) -> bool:
    """Whether somebody has a TCP connection to the process."""
    return any(each.status == psutil.CONN_ESTABLISHED for each in process.net_connections("tcp"))


@pytest.mark.parametrize("processes", [1, 2])
def test_receives_and_stops_in_order(settings: Settings, processes: int) -> None:
    with running(settings, processes) as (port, process):
        assert len(process.children()) == (0 if processes == 1 else processes)
        for seed in range(4):
            assert dicom_objects.store(port, photograph(seed=seed)).Status == 0x0000


def test_never_imports_torch(settings: Settings) -> None:
    with running(settings, 1) as (_, process):
        assert not [m.path for m in process.memory_maps() if "torch" in m.path or "mediapipe" in m.path]


def test_what_a_killed_node_left_behind_is_removed_at_the_next_start(settings: Settings) -> None:
    incoming = settings.storage_dir / "incoming"
    incoming.mkdir(parents=True)
    old, new = incoming / "old", incoming / "new"
    old.write_bytes(b"half")
    new.write_bytes(b"half")
    os.utime(old, (0, 0))
    with running(settings, 1):
        assert (old.exists(), new.exists()) == (False, True)


def test_a_killed_child_is_replaced(settings: Settings) -> None:
    with running(settings, 2) as (port, process):
        victim = process.children()[0]
        victim.kill()
        wait_until(
            lambda: len(pids := {c.pid for c in process.children()}) == 2 and victim.pid not in pids,
            timeout_s=60,
            what="a new child",
        )
        wait_until(lambda: all(echoes(port) for _ in range(6)), timeout_s=60, what="both children to answer")


def test_children_end_with_their_parent(settings: Settings) -> None:
    with running(settings, 2) as (_, process):
        children = process.children()
        process.kill()
        gone, alive = psutil.wait_procs(children, timeout=60)
        assert (len(gone), alive) == (2, [])


def test_a_callers_rates_hold_over_all_processes(settings: Settings) -> None:
    """With a count of its own each of three processes would take three objects and ten associations."""
    limits = {
        "SEMBLANCE_DICOM_OBJECTS_PER_MINUTE": "3",
        "SEMBLANCE_DICOM_ASSOCIATIONS_PER_MINUTE": "20",
    }
    with running(settings, 3, limits) as (port, process):
        served: set[int] = set()
        statuses: list[int] = []
        began = time.monotonic()
        while (association := associate(port)).is_established:
            served |= {child.pid for child in process.children() if is_connected(child)}
            statuses.append(association.send_c_store(photograph(seed=len(statuses))).Status)
            association.release()
        minutes = (time.monotonic() - began) / 60
        assert len(served) > 1  # else this shows nothing
        assert association.is_rejected
        assert 20 <= len(statuses) <= 20 + 20 * minutes
        assert set(statuses) == {0x0000, 0xA700}
        assert 3 <= statuses.count(0x0000) <= 3 + 3 * minutes
