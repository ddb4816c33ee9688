"""Cohorts: what is charted, under an id; their charts with denominators, each point with its evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from uuid import UUID, uuid4

from reporting.outcomes.charts.records import Chart, ChartKind, Point
from reporting.outcomes.charts.units import SMALL, Unit, suppressed
from reporting.outcomes.database import phases, signals
from reporting.outcomes.database.changes import Selection
from reporting.outcomes.drawing import Asked, draw, fit_risk, subject_of
from reporting.outcomes.out.report import make_pdf
from reporting.outcomes.out.svg import HEIGHT, WIDTH, Panel, panel_of
from reporting.outcomes.out.tables import CHART_COLUMNS, as_csv, chart_rows
from reporting.web.database import cohorts as kept
from reporting.web.database.cohorts import Cohort
from reporting.web.page import Moved, PageProblemError, Seen, Sent, Shown, Visit
from reporting.web.people import Need
from reporting.web.surgeons import shown_as
from service.database.pool import Connection, transaction
from service.errors import OutcomeError, RecordNotFoundError
from service.records import Region

_FIRST, _LAST = date(1900, 1, 1), date(9999, 12, 31)
_MOST_EVIDENCE = 200
_OLDEST = 150.0
_BY_UNIT = (ChartKind.FUNNEL, ChartKind.CUSUM)
_KINDS = {
    ChartKind.XMR: "Mean change by month (XmR)",
    ChartKind.RUN: "Run chart",
    ChartKind.P: "Rejected photographs",
    ChartKind.TIME: "Time to result",
    ChartKind.FUNNEL: "Funnel",
    ChartKind.CUSUM: "RA-CUSUM and VLAD",
}
_OF_PHOTOGRAPHS = (ChartKind.P, ChartKind.TIME)


def cohorts(visit: Visit) -> Shown:
    """``/cohorts``: those that were saved, and the form of another."""
    with transaction(visit.api.pool) as connection:
        window = kept.usual_window(connection)
        facts = {
            "saved": kept.newest(connection),
            "choices": kept.choices(connection),
            "methods": [row for row in phases.listed(connection) if row["phase"]],
            "newest": _usual_method(connection, window),
            "window": window,
            "regions": [each.value for each in Region],
            "subject_of": lambda selection: _said(visit, selection),
            "shown_as": lambda surgeon: shown_as(visit.api, surgeon),
            "may_choose_surgeon": visit.visitor.may(Need.DECIDE),
        }
    return Shown(template="cohorts.html", facts=facts)


def _usual_method(connection: Connection, window: str) -> str:
    """The newest method that there are changes of in a window; else the newest of all."""
    known = [str(row["phase"]) for row in phases.listed(connection) if row["phase"]]
    codes = kept.choices(connection)["codes"]
    used = (each for each in reversed(known) if kept.has_changes(connection, codes, window, each))
    return next(used, known[-1] if known else "")


def _said(visit: Visit, selection: Selection) -> str:
    return subject_of(replace(selection, surgeon=shown_as(visit.api, selection.surgeon)))


def save(visit: Visit) -> Moved:
    """``POST /cohorts``.

    Raises:
        PageProblemError: 400: something of it is no choice.
    """
    form = visit.form
    with transaction(visit.api.pool) as connection:
        choices = kept.choices(connection)
        selection = Selection(
            code=_one_of(form.get("code", ""), choices["codes"]),
            window=_one_of(form.get("window", ""), choices["windows"]),
            region=_one_of(form.get("region", ""), [each.value for each in Region]),
            phase=_one_of(form.get("phase", ""), [str(row["phase"]) for row in phases.listed(connection)]),
            since=_day(form.get("since", "")) or _FIRST,
            until=_day(form.get("until", "")) or _LAST,
            site=_one_of(form.get("site", ""), choices["sites"], or_none=True),
            surgeon=_surgeon(visit, form.get("surgeon", ""), choices["surgeons"]),
            phenotype=_one_of(form.get("phenotype", ""), choices["phenotypes"], or_none=True),
            youngest=_age(form.get("youngest", "")),
            oldest=_age(form.get("oldest", "")),
        )
        if selection.since > selection.until:
            raise PageProblemError(400, "The first day is after the last.")
        cohort_id = uuid4()
        title = form.get("title", "")[:120] or _said(visit, selection)
        kept.save(connection, cohort_id, title, selection, visit.visitor.name)
    return Moved(path=f"/cohorts/{cohort_id}", seen=Seen(note=f"cohort {cohort_id} saved"))


def _one_of(value: str, known: list[str], *, or_none: bool = False) -> str:
    if value not in known and not (or_none and not value):
        raise PageProblemError(400, "Choose from what is listed.")
    return value


def _surgeon(visit: Visit, value: str, known: list[str]) -> str:
    """The surgeon that a pseudonym stands for; for who may look at results by surgeon."""
    if not value:
        return ""
    if not visit.visitor.may(Need.DECIDE):
        raise PageProblemError(403, "Results by surgeon are for the quality team.")
    found = [each for each in known if shown_as(visit.api, each) == value]
    if not found:
        raise PageProblemError(400, "Choose from what is listed.")
    return found[0]


def _day(text: str) -> date | None:
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as exc:
        raise PageProblemError(400, "A day is written as 2026-05-31.") from exc


def _age(text: str) -> float | None:
    if not text:
        return None
    try:
        age = float(text.replace(",", "."))
    except ValueError as exc:
        raise PageProblemError(400, "An age is a number of years.") from exc
    if not math.isfinite(age) or not 0 <= age <= _OLDEST:
        raise PageProblemError(400, "An age is a number of years.")
    return age


@dataclass(frozen=True, kw_only=True)
class _Wish:
    """Which chart of a cohort a page asks for."""

    cohort: Cohort
    kind: ChartKind
    by: Unit
    name: str  # as pages show it
    ratio: bool
    dispersed: bool
    why: str

    @property
    def query(self) -> Mapping[str, str]:
        """For the addresses of its points."""
        wished = {"chart": self.kind.value, "by": self.by.value, "name": self.name, "why": self.why}
        wished |= {"ratio": "1" if self.ratio else "", "dispersed": "1" if self.dispersed else ""}
        return {name: value for name, value in wished.items() if value}

    @property
    def is_of_surgeons(self) -> bool:
        """Whether it tells surgeons apart."""
        return bool(self.cohort.selection.surgeon) or (self.by is Unit.SURGEON and self.kind in _BY_UNIT)


def _wish(connection: Connection, visit: Visit) -> _Wish:
    try:
        cohort = kept.get(connection, UUID(visit.parameters["cohort"]))
    except ValueError:
        cohort = None
    if cohort is None:
        raise PageProblemError(404, "There is no such cohort.")
    query = visit.query
    kind, by = query.get("chart", ChartKind.XMR.value), query.get("by", Unit.SITE.value)
    wish = _Wish(
        cohort=cohort,
        kind=ChartKind(kind) if kind in set(ChartKind) else ChartKind.XMR,
        by=Unit(by) if by in set(Unit) else Unit.SITE,
        name=query.get("name", ""),
        ratio=query.get("ratio") == "1",
        dispersed=query.get("dispersed") == "1",
        why=query.get("why", "").strip()[:200],
    )
    if wish.is_of_surgeons and not visit.visitor.may(Need.DECIDE):
        raise PageProblemError(403, "Results by surgeon are for the quality team.")
    return wish


def _drawn(connection: Connection, visit: Visit, wish: _Wish) -> Chart:
    """Draw the chart, as this reader may see it.

    Raises:
        OutcomeError: There is too little to chart, or a reason is needed.
        RecordNotFoundError: It needs a risk model, and none was fitted.
    """
    name, selection = wish.name, wish.cohort.selection
    if wish.is_of_surgeons:
        if not wish.why:
            raise OutcomeError(visit.texts("Results by surgeon need a reason, which is written down."))
        what = f"{wish.kind} by surgeon, {subject_of(selection)}"
        signals.note_access(connection, author=visit.visitor.name, what=what, reason=wish.why)
    if wish.by is Unit.SURGEON and wish.kind is ChartKind.CUSUM:
        known = kept.choices(connection)["surgeons"]
        name = next((each for each in known if shown_as(visit.api, each) == name), "")
    asked = Asked(
        kind=wish.kind,
        selection=selection,
        by=wish.by,
        name=name,
        dispersed=wish.dispersed,
        ratio=wish.ratio,
    )
    chart = visit.drawn.get(asked, lambda: draw(connection, asked))
    if wish.is_of_surgeons:
        chart = _pseudonymous(chart, visit, wish, name)
    return chart if visit.visitor.may(Need.PATIENTS) else suppressed(chart)


def _pseudonymous(chart: Chart, visit: Visit, wish: _Wish, name: str) -> Chart:
    """The same chart without a surgeon's name."""
    subject = _said(visit, wish.cohort.selection)
    title = chart.title.replace(name, wish.name) if name else chart.title
    if wish.kind is not ChartKind.FUNNEL:
        return replace(chart, title=title, subject=subject)
    tracks = tuple(
        replace(
            track,
            points=tuple(replace(point, label=shown_as(visit.api, point.label)) for point in track.points),
        )
        for track in chart.tracks
    )
    return replace(chart, title=title, subject=subject, tracks=tracks)


def cohort(visit: Visit) -> Shown:
    """``/cohorts/{cohort}``: one of its charts."""
    chart, problem, needs_model = None, "", False
    with transaction(visit.api.pool) as connection:
        wish = _wish(connection, visit)
        try:
            chart = _drawn(connection, visit, wish)
        except RecordNotFoundError:
            problem = visit.texts("It needs a risk model: what was to be expected of each patient.")
            needs_model = visit.visitor.may(Need.DECIDE)
        except OutcomeError as exc:
            problem = str(exc)
        choices = kept.choices(connection)
    sees = visit.visitor.may(Need.PATIENTS)
    names = choices["sites"]
    if wish.by is Unit.SURGEON:
        names = [shown_as(visit.api, each) for each in choices["surgeons"]]
    facts = {
        "cohort": wish.cohort,
        "subject": _said(visit, wish.cohort.selection),
        "wish": wish,
        "chart": chart,
        "problem": problem,
        "needs_model": needs_model,
        "panels": _panels(chart) if chart else [],
        "width": WIDTH,
        "height": HEIGHT,
        "kinds": [(each.value, visit.texts(said)) for each, said in _KINDS.items()],
        "by_unit": wish.kind in _BY_UNIT,
        "units": [each.value for each in Unit],
        "names": names,
        "denominators": _denominators(chart, whole=sees) if chart else [],
        "sees_evidence": sees,
        "may_see_surgeons": visit.visitor.may(Need.DECIDE),
    }
    note = f"{wish.kind} of cohort {wish.cohort.cohort_id}"
    return Shown(template="cohort.html", facts=facts, seen=Seen(note=note))


def _panels(chart: Chart) -> list[tuple[Panel, list[Point]]]:
    """Every track with its points in the order they are drawn."""
    made = []
    for track in chart.tracks:
        shown = [point for point in track.points if point.value is not None]
        ordered = sorted(shown, key=lambda point: point.x) if chart.kind is ChartKind.FUNNEL else shown
        made.append((panel_of(chart, track, 0), ordered))
    return made


def _denominators(chart: Chart, *, whole: bool) -> list[tuple[str, str]]:
    """Of how many a chart speaks, and of how many not; small numbers not to everybody."""
    lines = chart.denominators.lines if chart.denominators else ()
    return [
        (said, str(number) if whole or not 0 < number < SMALL else f"< {SMALL}") for said, number in lines
    ]


def point(visit: Visit) -> Shown:
    """``/cohorts/{cohort}/point``: what a point of a chart rests on.

    Raises:
        PageProblemError: 404: there is no such point now; 409: the chart cannot be drawn now.
    """
    place = visit.query.get("at", "")
    with transaction(visit.api.pool) as connection:
        wish = _wish(connection, visit)
        try:
            chart = _drawn(connection, visit, wish)
        except (OutcomeError, RecordNotFoundError) as exc:
            raise PageProblemError(409, "The chart cannot be drawn now.") from exc
        found = next(
            (
                each
                for panel, (_, points) in enumerate(_panels(chart))
                for each in points
                if f"{panel}.{each.label}" == place
            ),
            None,
        )
        if found is None:
            raise PageProblemError(404, "There is no such point any more: the chart has changed.")
        of_photographs = wish.kind in _OF_PHOTOGRAPHS
        rows = (
            []
            if of_photographs
            else kept.changes_of(
                connection,
                [UUID(each) for each in found.evidence],
                wish.cohort.selection.region,
                _MOST_EVIDENCE,
            )
        )
    facts = {
        "cohort": wish.cohort,
        "wish": wish,
        "chart": chart,
        "point": found,
        "rows": rows,
        "uids": found.evidence[:_MOST_EVIDENCE] if of_photographs else (),
        "left_out": max(0, len(found.evidence) - _MOST_EVIDENCE),
    }
    patients = tuple(dict.fromkeys(each.patient for each in rows))
    note = f"evidence of {wish.kind} of cohort {wish.cohort.cohort_id}: {place}"
    return Shown(template="point.html", facts=facts, seen=Seen(patients=patients, note=note))


def export(visit: Visit) -> Sent:
    """``/cohorts/{cohort}/chart.csv``: the points of a chart.

    Raises:
        PageProblemError: 409: the chart cannot be drawn.
    """
    with transaction(visit.api.pool) as connection:
        wish = _wish(connection, visit)
        try:
            chart = _drawn(connection, visit, wish)
        except (OutcomeError, RecordNotFoundError) as exc:
            raise PageProblemError(409, "The chart cannot be drawn now.") from exc
    body = as_csv(chart_rows(chart), CHART_COLUMNS).encode()
    note = f"{wish.kind} of cohort {wish.cohort.cohort_id} as CSV"
    name = f"{wish.kind.value}-{wish.cohort.cohort_id}.csv"
    return Sent(body=body, media_type="text/csv", file_name=name, seen=Seen(note=note))


def fit(visit: Visit) -> Moved:
    """``POST /cohorts/{cohort}/risk``: a risk model, which funnels and CUSUMs need, as its next version.

    Raises:
        PageProblemError: 400: no reason; 409: too few cases.
    """
    reason = visit.form.get("reason", "")
    if not 4 <= len(reason) <= 300:
        raise PageProblemError(400, "Say why.")
    try:
        with transaction(visit.api.pool) as connection:
            wish = _wish(connection, visit)
            made = fit_risk(connection, wish.cohort.selection, author=visit.visitor.name, reason=reason)
    except OutcomeError as exc:
        raise PageProblemError(409, "No risk model can be fitted: {why}", why=str(exc)) from exc
    note = f"risk model {made.version} fitted for cohort {wish.cohort.cohort_id}: {reason}"
    return Moved(path=f"/cohorts/{wish.cohort.cohort_id}?chart=funnel", seen=Seen(note=note))


def report(visit: Visit) -> Sent:
    """``/cohorts/{cohort}/report.pdf``: every chart of a cohort that can be drawn, none by surgeon.

    Raises:
        PageProblemError: 409: none can be drawn.
    """
    drawn: list[Chart] = []
    left_out: list[str] = []
    with transaction(visit.api.pool) as connection:
        first = _wish(connection, visit)
        wishes = [replace(first, kind=kind, by=Unit.SITE, ratio=False) for kind in ChartKind]
        wishes.append(replace(first, kind=ChartKind.FUNNEL, by=Unit.SITE, ratio=True))
        for wish in wishes:
            if wish.kind is ChartKind.CUSUM:
                continue  # of one site or surgeon
            try:
                drawn.append(_drawn(connection, visit, wish))
            except (OutcomeError, RecordNotFoundError) as exc:
                left_out.append(f"{wish.kind} chart: {exc}")
    try:
        body = make_pdf(
            drawn, title=first.cohort.title, organisation=visit.api.settings.organisation, notes=left_out
        )
    except OutcomeError as exc:
        raise PageProblemError(409, "The report cannot be made: {why}", why=str(exc)) from exc
    note = f"report of cohort {first.cohort.cohort_id} as PDF"
    name = f"outcomes-{first.cohort.cohort_id}.pdf"
    return Sent(body=body, media_type="application/pdf", file_name=name, seen=Seen(note=note))
