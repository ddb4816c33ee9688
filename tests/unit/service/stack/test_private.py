"""What the embedded stack and the store keep is their owner's alone."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from service.config import Settings
from service.stack.stack import Stack, StackOptions
from service.stack.supervisor import ChildSpec, Supervisor
from service.stack.waiting import wait_until
from service.storage.local import LocalStore


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_store_and_what_lies_in_it_are_private(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        store = LocalStore(tmp_path / "store")
        kept = store.put(b"a photograph")
    finally:
        os.umask(umask)
    path = store.path_of(kept.sha256)
    assert (mode(tmp_path / "store"), mode(path.parent), mode(path)) == (0o700, 0o700, 0o600)


def test_the_data_directory_is_closed_also_where_an_older_one_was_open(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    for each in (data_dir, data_dir / "store", data_dir / "pacs"):
        each.mkdir()
        each.chmod(0o755)
    stack = Stack(StackOptions(data_dir=data_dir), Settings(), program=("semblance",))
    stack._take_lock()
    stack.stop()
    assert mode(data_dir) == (0o711 if os.geteuid() == 0 else 0o700)
    assert {mode(data_dir / name) for name in ("store", "pacs", "log")} == {0o700}
    assert mode(data_dir / "lock") == 0o600


def test_what_the_stacks_children_write_is_private(tmp_path: Path) -> None:
    source = (
        "import json, pathlib; pathlib.Path('made').write_text('x'); print(json.dumps({'event': 'ready'}))"
    )
    supervisor = Supervisor(dict(os.environ), log_dir=tmp_path / "log", umask=0o077)
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        supervisor.start(ChildSpec(name="one", command=(sys.executable, "-c", source)))
        supervisor.wait_ready("one")
    finally:
        os.chdir(here)
    wait_until((tmp_path / "log" / "one.log").is_file, timeout_s=10, what="its log")
    supervisor.stop()
    assert mode(tmp_path / "made") == 0o600
    assert (mode(tmp_path / "log"), mode(tmp_path / "log" / "one.log")) == (0o700, 0o600)
