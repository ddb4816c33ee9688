"""Users of the dashboard by command."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from reporting.web.login.passcode import log_in
from service.commands.main import app
from service.database import ledger
from service.database.pool import Pool, transaction
from service.errors import RecordNotFoundError
from service.records import LedgerEvent

SECRET = "correct horse battery"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEMBLANCE_DATABASE_URL", database_url)


def run(*arguments: str, said: str = f"{SECRET}\n") -> Result:
    return CliRunner().invoke(app, ["users", *arguments], input=said)


def may_log_in(pool: Pool, passcode: str = SECRET) -> bool:
    return log_in(pool, "anna", passcode, "127.0.0.1").user is not None


def test_a_user_is_added_listed_disabled_and_let_in_again(pool: Pool) -> None:
    added = run("add", "anna", "--role", "clinician", "--role", "quality", "--full-name", "Anna Example")
    assert added.output == "anna may log in\n"
    assert may_log_in(pool)
    assert run("list").output == "anna\tclinician,quality\tmay log in\tAnna Example\n"
    assert run("disable", "anna").exit_code == 0
    assert not may_log_in(pool)
    assert "disabled" in run("list").output
    assert run("passcode", "anna", said="another passcode\n").exit_code == 0
    assert may_log_in(pool, "another passcode")
    assert not may_log_in(pool)
    with transaction(pool) as connection:
        lines = ledger.latest(connection, 10)
    assert [each.event for each in lines] == [LedgerEvent.ACTED] * 3
    assert lines[-1].detail["note"] == "user anna: added, clinician, quality"
    assert SECRET not in str(lines)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("add", "anna", "--role", "clinician"), "short\n"),
        (("add", "anna", "--role", "clinician"), "\n"),
        (("add", "anna", "--role", "king"), f"{SECRET}\n"),
        (("add", "anna"), f"{SECRET}\n"),
        (("add", " anna", "--role", "clinician"), f"{SECRET}\n"),
        (("add", "an\nna", "--role", "clinician"), f"{SECRET}\n"),
    ],
)
def test_what_is_no_user_is_refused(pool: Pool, arguments: tuple[str, ...], said: str) -> None:
    assert run(*arguments, said=said).exit_code == 2
    assert run("list").output == ""


def test_a_name_is_given_once(pool: Pool) -> None:
    run("add", "anna", "--role", "clinician")
    assert run("add", "anna", "--role", "admin").exit_code == 2
    assert "admin" not in run("list").output


@pytest.mark.parametrize("command", ["disable", "passcode"])
def test_who_is_not_there_is_named(command: str) -> None:
    assert isinstance(run(command, "nobody").exception, RecordNotFoundError)
