"""``semblance outcomes``: risk models, charts, exports and reports."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from reporting.outcomes.charts.records import Chart, ChartKind
from reporting.outcomes.charts.units import Unit
from reporting.outcomes.database import changes, phases, signals
from reporting.outcomes.database.changes import Selection
from reporting.outcomes.drawing import Asked, draw, fit_risk, subject_of
from reporting.outcomes.out.report import make_pdf
from reporting.outcomes.out.svg import draw_svg
from reporting.outcomes.out.tables import (
    CHANGE_COLUMNS,
    CHART_COLUMNS,
    as_csv,
    as_ndjson,
    change_rows,
    chart_document,
    chart_rows,
)
from service.commands.options import By, DataDir, Reason, settings_of, user
from service.commands.outcomes.decisions import outcomes_app
from service.commands.use import note_use
from service.database.pool import Connection, connect
from service.errors import OutcomeError, RecordNotFoundError
from service.records import LedgerEvent

__all__ = ["outcomes_app", "risk_app"]

risk_app = typer.Typer(
    no_args_is_help=True,
    help="Risk models: what was to be expected of each patient.\n\nExample: `semblance outcomes risk fit`.",
)
outcomes_app.add_typer(risk_app, name="risk")


@risk_app.callback()
def _risk() -> None:
    """Risk models: what was to be expected of each patient.

    Example: `semblance outcomes risk fit`.
    """


Code = Annotated[str, typer.Option(help="Code of the procedure, as 80872004.")]
WindowName = Annotated[str, typer.Option("--window", help="Name of the window after the operation.")]
RegionName = Annotated[str, typer.Option("--region", help="Region of the face.")]
Since = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First day of the operation.")]
Until = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day.")]
SiteName = Annotated[str, typer.Option("--site", help="One site alone.")]
PhaseName = Annotated[
    str, typer.Option("--phase", help="Method, as `semblance outcomes phases` names it; none: the newest.")
]


class Format(StrEnum):
    """How a chart comes out."""

    JSON = "json"
    CSV = "csv"
    NDJSON = "ndjson"
    SVG = "svg"


@risk_app.command("fit")
def risk_fit(
    *,
    code: Code,
    window: WindowName = "12 months",
    region: RegionName = "face",
    phase: PhaseName = "",
    reason: Reason,
    by: By = "",
    data_dir: DataDir = Path("var"),
) -> None:
    """Fit a risk model to the changes there are and keep it as the next version; shows slope and AUC.

    Example: `semblance outcomes risk fit --code 80872004 --reason "yearly audit"`.
    """
    with connect(settings_of(data_dir)) as connection:
        selection = _selection(connection, code, window, region, phase)
        kept = fit_risk(connection, selection, author=user(by), reason=reason)
    sys.stdout.write(json.dumps(asdict(kept), default=str) + "\n")


@outcomes_app.command()
def chart(
    kind: Annotated[ChartKind, typer.Argument(help="Which chart.")],
    *,
    code: Annotated[str, typer.Option(help="Code of the procedure; not for `p` and `time`.")] = "",
    window: WindowName = "12 months",
    region: RegionName = "face",
    phase: PhaseName = "",
    since: Since = None,
    until: Until = None,
    site: SiteName = "",
    by_unit: Annotated[Unit, typer.Option("--by-unit", help="Of funnels and CUSUMs.")] = Unit.SITE,
    name: Annotated[str, typer.Option(help="Site or surgeon of a CUSUM.")] = "",
    dispersed: Annotated[bool, typer.Option("--dispersed", help="Allow for over-dispersion.")] = False,
    ratio: Annotated[bool, typer.Option("--ratio", help="Poor outcomes over those expected.")] = False,
    reason: Annotated[str, typer.Option(help="Why results by surgeon are looked at; needed for those.")] = "",
    output: Annotated[Format, typer.Option(help="How it comes out.")] = Format.JSON,
    by: By = "",
    data_dir: DataDir = Path("var"),
) -> None:
    """Draw a chart: xmr, run, p, funnel, cusum or time; with denominators, evidence and versions.

    Results by surgeon are off unless a reason is given, which is written down with who asked.

    Example: `semblance outcomes chart funnel --code 80872004 --since 2023-01-01 --dispersed`.
    """
    with connect(settings_of(data_dir)) as connection:
        selection = _selection(connection, code, window, region, phase)
        selection = replace(
            selection,
            since=since.date() if since else selection.since,
            until=until.date() if until else selection.until,
            site=site,
        )
        if by_unit is Unit.SURGEON and kind in (ChartKind.FUNNEL, ChartKind.CUSUM):
            if not reason.strip():
                raise typer.BadParameter("results by surgeon need a --reason")
            signals.note_access(
                connection, author=user(by), what=f"{kind} by surgeon, {subject_of(selection)}", reason=reason
            )
        asked = Asked(kind=kind, selection=selection, by=by_unit, name=name, dispersed=dispersed, ratio=ratio)
        drawn = draw(connection, asked)
        what = f"semblance outcomes chart {kind}"
        note_use(connection, LedgerEvent.EXPORTED, what, by=by, note=subject_of(selection))
    sys.stdout.write(_as(drawn, output))


def _as(drawn: Chart, output: Format) -> str:
    if output is Format.SVG:
        return draw_svg(drawn)
    if output is Format.CSV:
        return as_csv(chart_rows(drawn), CHART_COLUMNS)
    if output is Format.NDJSON:
        return as_ndjson(chart_rows(drawn))
    return json.dumps(chart_document(drawn), ensure_ascii=False) + "\n"


@outcomes_app.command("export")
def export_changes(
    *,
    code: Code,
    window: WindowName = "12 months",
    region: RegionName = "face",
    phase: PhaseName = "",
    with_surgeon: Annotated[bool, typer.Option("--with-surgeon", help="Name the surgeon.")] = False,
    reason: Annotated[str, typer.Option(help="Why; needed with --with-surgeon.")] = "",
    output: Annotated[Format, typer.Option(help="csv or ndjson.")] = Format.CSV,
    by: By = "",
    data_dir: DataDir = Path("var"),
) -> None:
    """Write the changes that charts are drawn from, a line each, as CSV or NDJSON.

    Example: `semblance outcomes export --code 80872004 > changes.csv`.
    """
    if output not in (Format.CSV, Format.NDJSON):
        raise typer.BadParameter("--output is csv or ndjson")
    with connect(settings_of(data_dir)) as connection:
        selection = _selection(connection, code, window, region, phase)
        if with_surgeon:
            if not reason.strip():
                raise typer.BadParameter("results by surgeon need a --reason")
            what = f"export by surgeon, {subject_of(selection)}"
            signals.note_access(connection, author=user(by), what=what, reason=reason)
        table = changes.table(connection, selection)
        what = "semblance outcomes export"
        note_use(connection, LedgerEvent.EXPORTED, what, by=by, note=subject_of(selection))
    if not with_surgeon:
        table = table.without_surgeons()
    rows = change_rows(table)
    sys.stdout.write(as_csv(rows, CHANGE_COLUMNS) if output is Format.CSV else as_ndjson(rows))


@outcomes_app.command()
def report(
    to: Annotated[Path, typer.Argument(help="PDF that is written; one that is there is not replaced.")],
    *,
    code: Code,
    window: WindowName = "12 months",
    region: RegionName = "face",
    phase: PhaseName = "",
    since: Since = None,
    until: Until = None,
    by: By = "",
    data_dir: DataDir = Path("var"),
) -> None:
    """Write a report as PDF: charts by site with denominators, signals, and what each was made from.

    Example: `semblance outcomes report audit.pdf --code 80872004 --since 2023-01-01`.
    """
    if to.exists():
        raise typer.BadParameter(f"{to} is there already")
    settings = settings_of(data_dir)
    with connect(settings) as connection:
        selection = _selection(connection, code, window, region, phase)
        selection = replace(
            selection,
            since=since.date() if since else selection.since,
            until=until.date() if until else selection.until,
        )
        charts, left_out = _charts_of_report(connection, selection)
        what = "semblance outcomes report"
        note_use(connection, LedgerEvent.EXPORTED, what, by=by, note=subject_of(selection))
    to.write_bytes(
        make_pdf(charts, title=f"Outcomes of {code}", organisation=settings.organisation, notes=left_out)
    )
    sys.stdout.write(f"{to}: {len(charts)} charts\n")


def _charts_of_report(connection: Connection, selection: Selection) -> tuple[list[Chart], list[str]]:
    """Every chart that can be drawn, and why the others cannot."""
    wanted = [
        Asked(kind=kind, selection=selection)
        for kind in (ChartKind.XMR, ChartKind.RUN, ChartKind.P, ChartKind.TIME)
    ]
    wanted += [
        Asked(kind=ChartKind.FUNNEL, selection=selection, ratio=ratio, dispersed=dispersed)
        for ratio in (False, True)
        for dispersed in (False, True)
    ]
    drawn, left_out = [], []
    for asked in wanted:
        try:
            drawn.append(draw(connection, asked))
        except (OutcomeError, RecordNotFoundError) as exc:
            left_out.append(f"{asked.kind} chart: {exc}")
    return drawn, left_out


def _selection(connection: Connection, code: str, window: str, region: str, phase: str) -> Selection:
    newest = phases.newest(connection)
    chosen = phase or (newest.phase if newest else "")
    if not chosen:
        raise RecordNotFoundError("there is no result yet")
    return Selection(code=code, window=window, region=region, phase=chosen)
