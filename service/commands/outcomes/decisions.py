"""``semblance outcomes``: what a person decides: conflicts, windows, phases, notes, signals."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from reporting.outcomes.database import cases, pairs, phases, photographs, queue, signals
from reporting.outcomes.patients import persons_of
from reporting.outcomes.records import Anchor, Role, Window
from reporting.outcomes.windows import DEFAULT_WINDOWS
from service.commands.options import By, DataDir, settings_of, user
from service.database import reappraisals
from service.database.pool import Connection, connect
from service.errors import OutcomeError, RecordNotFoundError

outcomes_app = typer.Typer(
    no_args_is_help=True, help="Surgical outcomes: pairs, charts, risk models and reports."
)


@outcomes_app.command()
def status(*, data_dir: DataDir = Path("var")) -> None:
    """Show what is behind: patients to pair, conflicts, photographs to appraise again; as JSON.

    Example: `semblance outcomes status`.
    """
    with connect(settings_of(data_dir)) as connection:
        found = {
            "patients_behind": queue.behind(connection),
            "open_conflicts": len(pairs.open_conflicts(connection, limit=100_000)),
            "reappraisals": [asdict(each) for each in reappraisals.progress(connection)],
        }
    sys.stdout.write(json.dumps(found) + "\n")


@outcomes_app.command()
def conflicts(
    conflict: Annotated[
        str | None, typer.Argument(help="Id of one that is to be decided; none: list.")
    ] = None,
    *,
    photograph: Annotated[str, typer.Option(help="SOP Instance UID that is to be used.")] = "",
    none: Annotated[bool, typer.Option("--none", help="No photograph of this window is to be used.")] = False,
    window: Annotated[str, typer.Option(help="Window, where the conflict is of none.")] = "",
    reason: Annotated[str, typer.Option(help="Why; no patient data.")] = "",
    by: By = "",
    data_dir: DataDir = Path("var"),
) -> None:
    """List what pairing could not tell, as lines of JSON; or decide one of them, with the reason.

    Example: `semblance outcomes conflicts ID --photograph 2.25.12 --reason "eyes closed in the other"`.
    """
    with connect(settings_of(data_dir)) as connection:
        if conflict is None:
            _write_lines(asdict(each) for each in pairs.open_conflicts(connection))
            return
        if bool(photograph) == none or not reason.strip():
            raise typer.BadParameter("say --photograph or --none, and the --reason")
        found = pairs.open_conflict(connection, _uuid(conflict))
        chosen = _window_of(connection, found, window)
        instance_id = _photograph_of(connection, found, photograph) if photograph else None
        pairs.decide(
            connection,
            case_id=found.case_id,
            window=chosen,
            instance_id=instance_id,
            reason=reason,
            author=user(by),
        )
        queue.touch(connection, [found.patient])
    sys.stdout.write(f"conflict {conflict} is decided\n")


def _window_of(connection: Connection, found: pairs.OpenConflict, window: str) -> str:
    chosen = window or found.window
    known = {each.name for each in (*cases.windows(connection), *DEFAULT_WINDOWS)}
    if chosen not in known:
        raise typer.BadParameter(f"--window is one of {', '.join(sorted(known))}")
    return chosen


def _photograph_of(connection: Connection, found: pairs.OpenConflict, uid: str) -> int:
    """Instance of a photograph that is of the conflict's patient."""
    instance_id = pairs.instance_ids(connection, [uid]).get(uid)
    patient = photographs.patient_of(connection, instance_id) if instance_id is not None else None
    if instance_id is None or patient is None:
        raise RecordNotFoundError(f"no photograph {uid} that was reported")
    (person,) = persons_of(connection, [found.patient])
    if patient not in person.everyone:
        raise OutcomeError(f"photograph {uid} is of another patient")
    return instance_id


@outcomes_app.command()
def windows(
    file: Annotated[
        Path | None, typer.Argument(help="JSON list of windows that is to be used from now on.", exists=True)
    ] = None,
    *,
    code: Annotated[str, typer.Option(help="Code of the procedure they are for; none: every one.")] = "",
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    by: By = "",
    data_dir: DataDir = Path("var"),
) -> None:
    """Show the windows that photographs are looked for in, as JSON; or set those of a procedure.

    Example: `semblance outcomes windows palate.json --code 172735002 --reason "speech audit"`.
    """
    with connect(settings_of(data_dir)) as connection:
        if file is None:
            found = [*cases.windows(connection)]
            if not any(not each.code for each in found):
                found += DEFAULT_WINDOWS
            sys.stdout.write(json.dumps([asdict(each) for each in found], indent=1) + "\n")
            return
        if not reason.strip():
            raise typer.BadParameter("say the --reason")
        chosen = _windows(file, code)
        version = cases.set_windows(connection, code, chosen, author=user(by), reason=reason)
        queue.touch_all(connection)
    sys.stdout.write(f"version {version} of the windows of {code or 'every procedure'} is set\n")


def _windows(file: Path, code: str) -> list[Window]:
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        made = [
            Window(
                name=str(each["name"]),
                role=Role(each["role"]),
                anchor=Anchor(each["anchor"]),
                target=float(each["target"]),
                earliest=float(each["earliest"]),
                latest=float(each["latest"]),
                code=code,
            )
            for each in raw
        ]
    except (ValueError, KeyError, TypeError) as exc:
        raise OutcomeError(f"{file}: no list of windows: {exc!r}") from exc
    names = [each.name for each in made]
    if not made or len(set(names)) < len(names) or any(each.earliest > each.latest for each in made):
        raise OutcomeError(f"{file}: windows need names of their own, and earliest before latest")
    if not {Role.PRE, Role.POST} <= {each.role for each in made}:
        raise OutcomeError(f"{file}: a window before and one after the operation are needed")
    return made


@outcomes_app.command("phases")
def phases_command(
    *,
    begin: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Begin a phase on this day.")
    ] = None,
    code: Annotated[str, typer.Option(help="Code of the procedure; none: every one.")] = "",
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    by: By = "",
    data_dir: DataDir = Path("var"),
) -> None:
    """Show the phases of charts, as lines of JSON; or begin one, with its reason.

    None begins by itself but by a change of method.

    Example: `semblance outcomes phases --begin 2026-01-01 --reason "new protocol of photography"`.
    """
    with connect(settings_of(data_dir)) as connection:
        if begin is None:
            _write_lines(phases.listed(connection))
            return
        if not reason.strip():
            raise typer.BadParameter("say the --reason")
        new = phases.begin(
            connection, phase="", method="", begins_on=begin.date(), reason=reason, author=user(by), code=code
        )
    sys.stdout.write("the phase begins\n" if new else "such a phase was begun before\n")


@outcomes_app.command()
def annotate(
    day: Annotated[datetime, typer.Argument(formats=["%Y-%m-%d"], help="Day it is about.")],
    note: Annotated[str, typer.Argument(help="What happened; no patient data.")],
    *,
    code: Annotated[str, typer.Option(help="Code of the procedure; none: every one.")] = "",
    by: By = "",
    data_dir: DataDir = Path("var"),
) -> None:
    """Write a note to a day; charts show it.

    Example: `semblance outcomes annotate 2026-03-02 "new camera in clinic 2"`.
    """
    with connect(settings_of(data_dir)) as connection:
        phases.annotate(connection, on_day=day.date(), code=code, note=note, author=user(by))
    sys.stdout.write("noted\n")


@outcomes_app.command("signals")
def signals_command(
    signal: Annotated[str | None, typer.Argument(help="Id of one that was seen; none: list.")] = None,
    *,
    reason: Annotated[str, typer.Option(help="What is made of it.")] = "",
    resets_on: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="The CUSUM begins anew with cases from this day on."),
    ] = None,
    by: By = "",
    data_dir: DataDir = Path("var"),
) -> None:
    """List the signals of charts that were drawn, as lines of JSON; or acknowledge one, with the reason.

    Example: `semblance outcomes signals ID --reason "reviewed by the team" --resets-on 2026-04-01`.
    """
    with connect(settings_of(data_dir)) as connection:
        if signal is None:
            _write_lines(asdict(each) for each in signals.newest(connection))
            return
        if not reason.strip():
            raise typer.BadParameter("say the --reason")
        day = resets_on.date() if resets_on else None
        signals.acknowledge(connection, _uuid(signal), reason=reason, author=user(by), resets_on=day)
    sys.stdout.write(f"signal {signal} is acknowledged\n")


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as exc:
        raise RecordNotFoundError(f"{text} is no id") from exc


def _write_lines(rows: Iterable[dict[str, Any]]) -> None:
    sys.stdout.writelines(json.dumps(row, default=str, ensure_ascii=False) + "\n" for row in rows)
