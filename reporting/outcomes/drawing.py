"""Charts of what the database holds, each with its denominators and all it was made from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from uuid import UUID

import numpy as np

from reporting.identifiers import signal_id
from reporting.outcomes.charts.monthly import mean_chart, median_run_chart, rejected_chart, time_chart
from reporting.outcomes.charts.records import (
    ChangeTable,
    Chart,
    ChartKind,
    Denominators,
    Phase,
    PhotographCounts,
)
from reporting.outcomes.charts.units import Unit, change_funnel, cusum_chart, cusum_limits, ratio_funnel
from reporting.outcomes.database import changes, phases, photograph_tables, risk_models, signals
from reporting.outcomes.database.changes import Selection
from reporting.outcomes.database.risk_models import StoredRiskModel
from reporting.outcomes.risk_model import RiskModel, fit_risk_model
from service.database.pool import Connection
from service.errors import OutcomeError, RecordNotFoundError

_FIRST_DAY = date(1900, 1, 1)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Which chart is wanted."""

    kind: ChartKind
    selection: Selection
    by: Unit = Unit.SITE  # of funnels and CUSUMs
    name: str = ""  # of the site or surgeon of a CUSUM
    dispersed: bool = False  # whether a funnel allows for over-dispersion
    ratio: bool = False  # funnel of poor outcomes over expected, instead of the mean change
    screened: bool = True  # whether an XmR leaves out large moving ranges


def draw(connection: Connection, asked: Asked) -> Chart:
    """Draw a chart and keep its signals.

    Args:
        connection: In a transaction, which the caller commits.
        asked: What is wanted.

    Raises:
        OutcomeError: There is too little to chart.
        RecordNotFoundError: It needs a risk model, and none was fitted.
    """
    chart = _DRAWN[asked.kind](connection, asked)
    chart = replace(chart, denominators=_denominators(connection, asked))
    evidence = sorted({each for track in chart.tracks for point in track.points for each in point.evidence})
    made_from = {**chart.made_from, **_said(asked), "evidence": digest_of(evidence)}
    notes = [f"{day}: {note}" for day, note in phases.notes(connection, asked.selection.code)]
    chart = replace(chart, made_from=made_from, notes=(*chart.notes, *notes))
    for track, point in chart.signals:
        for rule in point.signals:
            signals.add(
                connection,
                signal_id=id_of_signal(chart, track, rule, point.label, point.evidence),
                chart=chart.title,
                subject=chart.subject,
                rule=rule,
                label=f"{track} {point.label}",
                evidence=point.evidence,
                made_from=made_from,
            )
    return chart


def _denominators(connection: Connection, asked: Asked) -> Denominators | PhotographCounts:
    selection = asked.selection
    if asked.kind in (ChartKind.P, ChartKind.TIME):
        return photograph_tables.counts(connection, selection.since, selection.until, selection.site)
    return changes.denominators(connection, selection)


def id_of_signal(chart: Chart, track: str, rule: str, label: str, evidence: tuple[str, ...]) -> UUID:
    """Id of a signal: the same point of the same chart with the same evidence is one signal."""
    return signal_id(chart.title, chart.subject, track, rule, label, digest_of(sorted(evidence)))


def digest_of(evidence: list[str]) -> str:
    """SHA-256 of sorted ids: what a figure was computed from, in short."""
    return hashlib.sha256("\n".join(evidence).encode()).hexdigest()


def subject_of(selection: Selection) -> str:
    """What a chart is of, in words."""
    parts = [selection.code, selection.region, selection.window]
    parts += [f"site {selection.site}"] if selection.site else []
    parts += [f"surgeon {selection.surgeon}"] if selection.surgeon else []
    parts += [selection.phenotype] if selection.phenotype else []
    parts += [f"from {selection.youngest:g} years"] if selection.youngest is not None else []
    parts += [f"under {selection.oldest:g} years"] if selection.oldest is not None else []
    return ", ".join(parts)


def _said(asked: Asked) -> dict[str, str]:
    selection = asked.selection
    return {
        "procedure code": selection.code,
        "window": selection.window,
        "region": selection.region,
        "phase": selection.phase,
        "since": str(selection.since),
        "until": str(selection.until),
        **({"patients": subject_of(selection)} if selection.is_of_some else {}),
    }


def _xmr(connection: Connection, asked: Asked) -> Chart:
    return mean_chart(
        changes.monthly_means(connection, asked.selection),
        phases.of_persons(connection, asked.selection.code),
        title="Change of score by month of operation",
        subject=subject_of(asked.selection),
        unit="score",
        screened=asked.screened,
    )


def _run(connection: Connection, asked: Asked) -> Chart:
    return median_run_chart(
        changes.monthly_means(connection, asked.selection),
        title="Change of score by month of operation",
        subject=subject_of(asked.selection),
        unit="score",
    )


def _rejected(connection: Connection, asked: Asked) -> Chart:
    selection = asked.selection
    table = photograph_tables.table(connection, selection.since, selection.until, selection.site)
    return rejected_chart(table, subject=selection.site or "every site")


def _time(connection: Connection, asked: Asked) -> Chart:
    selection = asked.selection
    table = photograph_tables.table(connection, selection.since, selection.until, selection.site)
    known: list[Phase] = phases.all_of(connection, selection.code)
    return time_chart(table, subject=selection.site or "every site", phases=known)


def _funnel(connection: Connection, asked: Asked) -> Chart:
    kept = risk_model_of(connection, asked.selection)
    units = changes.unit_sums(connection, asked.selection, asked.by, kept.risk_model_id)
    if units.unexpected:  # changes that came after the model
        expect(connection, asked.selection, kept.risk_model_id, kept.model)
        units = changes.unit_sums(connection, asked.selection, asked.by, kept.risk_model_id)
    subject = subject_of(asked.selection)
    if asked.ratio:
        chart = ratio_funnel(units, asked.by, subject=subject, dispersed=asked.dispersed)
    else:
        sd = kept.model.change.residual_sd
        chart = change_funnel(units, sd, asked.by, subject=subject, dispersed=asked.dispersed)
    return replace(chart, made_from=_of_model(kept))


def _cusum(connection: Connection, asked: Asked) -> Chart:
    kept = risk_model_of(connection, asked.selection)
    everything = changes.table(connection, asked.selection)
    own = everything.rows(getattr(everything, asked.by.value) == asked.name)
    if len(own) == 0:
        raise OutcomeError(f"{asked.by} {asked.name!r} has no case to chart")
    subject = subject_of(asked.selection)
    title = f"RA-CUSUM and VLAD of {asked.name}"
    chart = cusum_chart(
        own,
        kept.model.risks(own),
        asked.name,
        limits=cusum_limits(kept.model.risks(everything)),
        subject=subject,
        resets=[np.datetime64(day) for day in signals.resets(connection, title, subject)],
    )
    return replace(chart, made_from=_of_model(kept))


def risk_model_of(connection: Connection, selection: Selection) -> StoredRiskModel:
    """The newest risk model for a selection.

    Raises:
        RecordNotFoundError: None was fitted.
    """
    kept = risk_models.newest(connection, selection)
    if kept is None:
        raise RecordNotFoundError(
            f"no risk model for {subject_of(selection)}: run `semblance outcomes risk fit`"
        )
    return kept


def _of_model(kept: StoredRiskModel) -> Mapping[str, str]:
    held = kept.model.performance
    return {
        "risk model": str(kept.version),
        "risk model data": kept.data_sha256,
        "calibration slope": f"{held.calibration_slope:.3f}",
        "AUC": f"{held.auc:.3f}",
    }


def fit_risk(connection: Connection, selection: Selection, *, author: str, reason: str) -> StoredRiskModel:
    """Fit a risk model to the changes of a selection and keep it as the next version.

    Args:
        connection: In a transaction, which the caller commits.
        selection: Of one procedure, window, region and phase.
        author: Who.
        reason: Why.

    Raises:
        OutcomeError: Too few cases, or the case mix separates the outcomes.
    """
    table = changes.table(connection, _of_everybody(selection))
    model = fit_risk_model(table)
    risk_model_id = risk_models.add(
        connection,
        selection,
        model,
        data_sha256=digest_of(sorted(map(str, table.change_id))),
        author=author,
        reason=reason,
    )
    expect(connection, selection, risk_model_id, model)
    return risk_model_of(connection, selection)


def _of_everybody(selection: Selection) -> Selection:
    """What a risk model is of: every site, surgeon and patient."""
    return replace(selection, site="", surgeon="", phenotype="", youngest=None, oldest=None)


def expect(connection: Connection, selection: Selection, risk_model_id: int, model: RiskModel) -> int:
    """Keep what a model expects of changes that it says nothing of yet; returns of how many."""
    missing = risk_models.unexpected(connection, selection, risk_model_id)
    if not missing:
        return 0
    whole = replace(_of_everybody(selection), since=_FIRST_DAY, until=date.max)
    table: ChangeTable = changes.table(connection, whole)
    place = {name: index for index, name in enumerate(table.change_id)}
    risks, expected = model.risks(table), model.expected(table)
    rows = [
        (name, case, float(risks[place[str(name)]]), float(expected[place[str(name)]]))
        for name, case in missing
    ]
    risk_models.expect(connection, risk_model_id, rows)
    return len(rows)


_DRAWN: Mapping[ChartKind, Callable[[Connection, Asked], Chart]] = {
    ChartKind.XMR: _xmr,
    ChartKind.RUN: _run,
    ChartKind.P: _rejected,
    ChartKind.TIME: _time,
    ChartKind.FUNNEL: _funnel,
    ChartKind.CUSUM: _cusum,
}
