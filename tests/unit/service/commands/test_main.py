"""The command: its help, its refusals, its exit codes."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from service import __version__
from service.commands.deferred import COMMANDS
from service.commands.family import loaded
from service.commands.main import app
from service.commands.program import PROGRAM
from service.commands.run.machine import _describe
from service.config import Settings
from service.database import dead_letters, instances, ledger
from service.database.pool import Pool, transaction
from service.errors import StackError
from service.exit_codes import ExitCode
from service.records import InstanceState, LedgerEvent
from service.stack.stack import _STATE_FILE, Stack, StackFacts, StackOptions, running_stack
from service.steps import APPRAISE
from tests.command import semblance
from tests.records import offered

DOCS = Path(__file__).resolve().parents[4] / "docs" / "cli.md"
Run = Callable[..., tuple[int, str]]


def commands_of(of: typer.Typer) -> Collection[str]:
    return typer.main.get_command(of).commands  # type: ignore[attr-defined]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs ``semblance ...`` in this process and an empty directory; returns exit code and output."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, database_url: str = "") -> tuple[int, str]:
        if database_url:
            monkeypatch.setenv("SEMBLANCE_DATABASE_URL", database_url)
        code = semblance(*arguments)
        said = capsys.readouterr()
        return code, said.out + said.err

    return call


def kill(pool: Pool, uid: str = "1.2.3") -> None:
    with transaction(pool) as connection:
        _, instance_id = instances.receive(connection, offered(uid))
        instances.set_state(connection, instance_id, InstanceState.DEAD)
        dead_letters.add(connection, instance_id=instance_id, step=APPRAISE.task, error="E", traceback="in f")


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"semblance {__version__}\n")


def test_paragraphs_of_help_fill_the_line() -> None:
    ours = [loaded(name) for name in COMMANDS]
    told = [each for one in ours for each in (one, *getattr(one, "commands", {}).values())]
    assert len(told) > len(ours)
    for command in told:
        assert command.help
        assert "\n" not in command.help.replace("\n\n", "")


def test_every_command_explains_itself_and_is_documented() -> None:
    text = DOCS.read_text()
    runner = CliRunner()
    names = list(commands_of(app))
    assert {"up", "demo", "node", "worker", "api", "relay", "migrate", "status", "retry", "score"} <= set(
        names
    )
    for name in names:
        if COMMANDS[name].hidden:
            continue
        explained = runner.invoke(app, [name, "--help"])
        assert explained.exit_code == 0
        inner = COMMANDS[name].load()
        parts = list(commands_of(inner)) if isinstance(inner, typer.Typer) else []
        for shown in [runner.invoke(app, [name, part, "--help"]) for part in parts] or [explained]:
            assert re.search(r"Example: |For example ", shown.output), shown.output
        assert f"### `semblance {name}`" in text


def test_the_page_groups_the_commands_as_the_help_does() -> None:
    documented: dict[str, list[str]] = {}
    group = ""
    for line in DOCS.read_text().splitlines():
        if title := re.fullmatch(r"## (.+)", line):
            group = title[1]
        elif command := re.fullmatch(r"### `semblance ([a-z0-9-]+)`", line):
            documented.setdefault(group, []).append(command[1])
    shown: dict[str, list[str]] = {}
    for name, command in COMMANDS.items():  # type: ignore[assignment]
        if not command.hidden:
            shown.setdefault(command.panel.value, []).append(name)

    assert documented == shown
    assert list(documented) == list(shown)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_deferred_command_is_listed_as_what_it_is(name: str) -> None:
    real = loaded(name)
    assert real.name == name
    assert " ".join((real.help or "").split("\n\n")[0].split()) == COMMANDS[name].summary


def test_no_command_but_those_that_need_it_loads_the_science() -> None:
    """A broken science must not keep a database from being migrated."""
    code = (
        "import sys; sys.modules.update(torch=None, mediapipe=None, cv2=None, scipy=None);"
        "from service.commands.main import main; main()"
    )
    for arguments in (["--help"], ["migrate", "--help"], ["status", "--help"], ["--version"]):
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    listed = "from service.commands.main import app; import sys; sys.exit('service.appraisal' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", listed], check=False).returncode == 0


def test_every_exit_code_is_documented() -> None:
    table = dict(re.findall(r"^\| (\d) \| (.+) \|$", DOCS.read_text(), flags=re.MULTILINE))
    assert {str(code.value) for code in ExitCode} == set(table)


def test_an_unknown_command_is_a_usage_error(run: Run) -> None:
    code, said = run("statsu")
    assert code == ExitCode.USAGE
    assert "status" in said


def test_status_of_everything(run: Run, pool: Pool, database_url: str) -> None:
    kill(pool)
    code, said = run("status", "--output", "json", database_url=database_url)
    found = json.loads(said)
    assert code == ExitCode.DONE
    assert found["instances"]["dead"] == 1
    assert found["dead"] == [{"sop_instance_uid": "1.2.3", "step": APPRAISE.task, "error": "E"}]
    assert found["newest"][0]["sop_instance_uid"] == "1.2.3"
    code, said = run("status", database_url=database_url)
    assert "Given up" in said
    assert "1.2.3" in said


def test_status_of_one(run: Run, pool: Pool, database_url: str) -> None:
    kill(pool)
    code, said = run("status", "1.2.3", database_url=database_url)
    assert code == ExitCode.DONE
    assert "received" in said
    assert "given up in appraise: E" in said
    assert "in f" in said
    code, said = run("status", "1.2.3", "--output", "json", database_url=database_url)
    assert [line["event"] for line in json.loads(said)["ledger"]] == ["received", "viewed"]


def test_status_of_what_was_refused(run: Run, pool: Pool, database_url: str) -> None:
    with transaction(pool) as connection:
        ledger.append(connection, LedgerEvent.REFUSED, sop_instance_uid="1.9", detail={"reason": "not a UID"})
    code, said = run("status", "1.9", database_url=database_url)
    assert code == ExitCode.FAILED
    assert "not a UID" in said
    code, said = run("status", "1.10", database_url=database_url)
    assert (code, "no photograph 1.10" in said) == (ExitCode.FAILED, True)


def test_a_database_that_is_not_there(run: Run, free_port: Callable[[], int]) -> None:
    url = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
    for command in ("status", "migrate"):
        code, said = run(command, database_url=url)
        assert code == ExitCode.UNAVAILABLE
        assert "SEMBLANCE_DATABASE_URL" in said


@pytest.mark.parametrize("command", [("export", "9.9.9", "out"), ("import", ".")])
def test_media_without_a_database_is_one_error_at_once(
    run: Run, free_port: Callable[[], int], tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "a.dcm").write_bytes(bytes(128) + b"DICM")
    code, said = run(*command, database_url=f"postgresql://postgres@127.0.0.1:{free_port()}/none")
    assert code == ExitCode.UNAVAILABLE
    assert said.startswith("semblance: ")
    assert "0xA700" not in said
    assert "{" not in said


def test_retry_puts_back_what_died(run: Run, pool: Pool, database_url: str) -> None:
    kill(pool, "1.1")
    kill(pool, "1.2")
    assert run("retry", "1.1", database_url=database_url) == (0, f"1.1 goes back to {APPRAISE.task}\n")
    assert run("retry", "--all", database_url=database_url) == (0, f"1.2 goes back to {APPRAISE.task}\n")
    assert run("retry", "--all", database_url=database_url) == (0, "nothing was given up\n")
    with transaction(pool) as connection:
        assert instances.counts_by_state(connection)[InstanceState.RECEIVED] == 2
        assert [entry.event for entry in ledger.entries(connection, "1.1")] == [
            LedgerEvent.RECEIVED,
            LedgerEvent.RETRIED,
        ]


def test_a_step_that_this_version_lacks_is_said_and_holds_nothing_else_up(
    run: Run, pool: Pool, database_url: str
) -> None:
    kill(pool, "1.1")
    kill(pool, "1.2")
    with transaction(pool) as connection:
        connection.execute(
            "UPDATE dead_letter SET step = 'of-the-future' WHERE instance_id ="
            " (SELECT instance_id FROM instance WHERE sop_instance_uid = '1.1')"
        )
    code, said = run("retry", "--all", database_url=database_url)
    assert code == ExitCode.FAILED
    assert "1.1: no step is called 'of-the-future'; there are appraise, report, deliver" in said
    assert f"1.2 goes back to {APPRAISE.task}" in said


def test_a_step_answers_to_the_name_it_had(run: Run, pool: Pool, database_url: str) -> None:
    kill(pool, "1.1")
    with transaction(pool) as connection:
        connection.execute("UPDATE dead_letter SET step = 'service.tasks.appraise'")
    assert run("retry", "--all", database_url=database_url) == (0, f"1.1 goes back to {APPRAISE.task}\n")


def test_retry_of_what_is_not_dead(run: Run, pool: Pool, database_url: str) -> None:
    with transaction(pool) as connection:
        instances.receive(connection, offered())
    code, said = run("retry", "1.2.3", database_url=database_url)
    assert code == ExitCode.FAILED
    assert "no dead letter" in said
    assert run("retry", database_url=database_url)[0] == ExitCode.USAGE
    assert run("retry", "1.2.3", "--all", database_url=database_url)[0] == ExitCode.USAGE


def test_migrate(run: Run, empty_database_url: str) -> None:
    assert run("migrate", "--check", database_url=empty_database_url)[0] == ExitCode.FAILED
    assert run("migrate", database_url=empty_database_url)[0] == ExitCode.DONE
    assert run("migrate", "--check", database_url=empty_database_url)[0] == ExitCode.DONE


def test_migrate_looks_where_a_stack_keeps_its_files(run: Run, free_port: Callable[[], int]) -> None:
    code, said = run("migrate", "--check", "--data-dir", "elsewhere")
    assert code == ExitCode.UNAVAILABLE
    assert "No such option" not in said


@pytest.mark.parametrize(("where", "added"), [("var", ""), ("my files/var", " --data-dir 'my files/var'")])
def test_what_up_advises_can_be_typed(where: str, added: str) -> None:
    facts = StackFacts(
        database_url="",
        database_owner_url="",
        broker_url="",
        storage_dir="",
        dicom_port=1,
        dicom_ae_title="SEMBLANCE",
        fhir_url="",
        pacs_directory="",
        pids={},
    )
    said = io.StringIO()
    _describe(Console(file=said), facts, Path(where), has_pages=True)
    assert f" status{added}, " in said.getvalue()
    assert said.getvalue().rstrip().endswith(f" demo{added}")


def test_a_setting_that_is_wrong_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMBLANCE_DICOM_PORT", "many")
    code, said = run("migrate")
    assert code == ExitCode.USAGE
    assert "dicom_port" in said


def test_a_stack_that_does_not_start_is_a_failure(run: Run, tmp_path: Path) -> None:
    other = Stack(StackOptions(data_dir=tmp_path / "var"), Settings(), PROGRAM)
    other._take_lock()
    state = tmp_path / "var" / _STATE_FILE
    state.write_text("{}")
    try:
        for command in ("up", "demo"):
            code, said = run(command)
            assert code == ExitCode.FAILED
            assert "another stack" in said
            assert state.read_text() == "{}"  # of the stack that runs: others find it there
    finally:
        other.stop()


def test_a_data_directory_belongs_to_one_stack(tmp_path: Path) -> None:
    assert running_stack(tmp_path) is None
    options = StackOptions(data_dir=tmp_path)
    first, second = Stack(options, Settings(), PROGRAM), Stack(options, Settings(), PROGRAM)
    first._take_lock()
    try:
        assert running_stack(tmp_path) is None  # locked, but not ready yet
        with pytest.raises(StackError, match="another stack"):
            second.start()
    finally:
        first.stop()
    assert running_stack(tmp_path) is None
