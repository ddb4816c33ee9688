"""The marker of tests that need foreign programs: deselected, said aloud, and an error in CI."""

from __future__ import annotations

import pytest

from tests.peers import find_peer

pytest_plugins = ["pytester"]

TESTS = """
import pytest

@pytest.mark.peers("sh")
def test_with_a_program_that_is_here():
    pass

@pytest.mark.peers("sh", "no-such-program")
def test_with_a_program_that_is_not():
    raise AssertionError

def test_with_none():
    pass
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Three tests, one of which needs a program that is nowhere; other plugins are not loaded."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeini("[pytest]\nmarkers = peers(*programs): foreign programs\n")
    pytester.makepyfile(TESTS)
    return pytester


@pytest.mark.parametrize("processes", [[], ["-p", "xdist", "-n", "2"]], ids=["one process", "two workers"])
def test_a_missing_program_deselects_its_tests_and_the_summary_says_so(
    suite: pytest.Pytester, processes: list[str]
) -> None:
    result = suite.runpytest_subprocess("-p", "tests.peers", *processes)

    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=2, skipped=0)
    result.stdout.fnmatch_lines(
        ["*programs missing here*", "1 tests need no-such-program", "bash .ci/run installs*"]
    )


@pytest.mark.parametrize("processes", [[], ["-p", "xdist", "-n", "2"]], ids=["one process", "two workers"])
def test_a_missing_program_is_an_error_when_every_peer_is_required(
    suite: pytest.Pytester, processes: list[str]
) -> None:
    result = suite.runpytest_subprocess("-p", "tests.peers", "--require-peers", *processes)

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*not installed: no-such-program*"])


def test_programs_are_looked_for_on_the_path_and_in_the_system_directories() -> None:
    assert find_peer("sh") is not None
    assert find_peer("no-such-program") is None
