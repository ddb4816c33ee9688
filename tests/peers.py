"""The ``peers`` marker: tests against foreign programs that a bare machine need not have.

``@pytest.mark.peers("storescu", "dciodvfy")`` names the programs a test runs. Where one is not
installed the test is deselected, and the summary says how many and why; with
``--require-peers`` (continuous integration) a missing program is an error instead.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

# What .ci/run installs. Debian keeps two of them in /usr/sbin, which is on no user's PATH.
PEERS = (
    "storescu",
    "dciodvfy",
    "Orthanc",
    "rabbitmq-server",
    "chromium",
    "playwright",  # installed beside Python, not by Debian
    "node",
    "rsyslogd",
    "faketime",
    "curl",
    "openssl",
)
SYSTEM_DIRECTORIES = ("/usr/sbin", "/usr/local/sbin")

_DESELECTED = pytest.StashKey[Counter[tuple[str, ...]]]()


def find_peer(program: str) -> str | None:
    """Path of a foreign program, or None when it is not installed."""
    directories = (os.environ.get("PATH", os.defpath), *SYSTEM_DIRECTORIES, os.path.dirname(sys.executable))
    return shutil.which(program, path=os.pathsep.join(directories))


def needed_peers(item: pytest.Item) -> tuple[str, ...]:
    """Programs a test names; a bare ``peers`` mark means every one of PEERS."""
    needed: list[str] = []
    for mark in item.iter_markers("peers"):
        needed.extend(mark.args or PEERS)
    return tuple(dict.fromkeys(needed))


def missing_peers(item: pytest.Item) -> tuple[str, ...]:
    """Programs a test names that are not installed."""
    return tuple(program for program in needed_peers(item) if find_peer(program) is None)


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--require-peers``."""
    parser.addoption(
        "--require-peers",
        action="store_true",
        help="fail a test whose program is missing",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Count from nothing in every process."""
    config.stash[_DESELECTED] = Counter()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what cannot run here, unless every peer is required."""
    if config.getoption("--require-peers"):
        return
    dropped = [item for item in items if missing_peers(item)]
    if dropped:
        config.stash[_DESELECTED].update(map(missing_peers, dropped))
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in dropped]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a test whose program is missing; only reached with --require-peers."""
    missing = missing_peers(item)
    if missing:
        pytest.fail(f"not installed: {', '.join(missing)}", pytrace=False)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In a pytest-xdist worker: hand the counts to the process that writes the summary."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["peers"] = [[list(names), count] for names, count in session.config.stash[_DESELECTED].items()]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """In that process: every worker collects the same tests, so any one's counts will do."""
    pairs: Sequence[tuple[list[str], int]] = getattr(node, "workeroutput", {}).get("peers", ())
    for names, count in pairs:
        node.config.stash[_DESELECTED][tuple(names)] = count


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what did not run, and what would make it run."""
    counts = config.stash[_DESELECTED]
    if not counts:
        return
    terminalreporter.section("not run: programs missing here", yellow=True)
    for names, count in sorted(counts.items()):
        terminalreporter.line(f"{count} tests need {', '.join(names)}")
    terminalreporter.line("bash .ci/run installs them (Debian, as root) and runs every test")
