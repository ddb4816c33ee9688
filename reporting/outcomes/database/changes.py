"""Changes: written once, their validity followed, and read for charts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID

import numpy as np
from psycopg.rows import tuple_row

from reporting.outcomes.charts.records import ChangeTable, Denominators
from reporting.outcomes.charts.sums import MonthlyMeans, UnitSums
from reporting.outcomes.charts.units import Unit
from reporting.outcomes.records import ProcedureCase, RegionOutcome, WhyNot
from reporting.outcomes.states import WindowState
from service.database.pool import Connection


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which changes are charted."""

    code: str  # of the procedure
    window: str
    region: str
    phase: str  # digest of method, weights and settings
    since: date = date(1900, 1, 1)  # of the operation, inclusive
    until: date = date(9999, 12, 31)  # inclusive
    site: str = ""  # "" for every one
    surgeon: str = ""


@dataclass(frozen=True, kw_only=True)
class NewChange:
    """What is written of one pair, beside its regions."""

    change_id: UUID
    case: ProcedureCase
    window: str
    before_appraisal: UUID
    after_appraisal: UUID
    phase: str
    method: str
    followed_on: date


_WRITTEN = (
    "change_id", "case_id", "window_name", "region", "case_version", "patient", "before_appraisal",
    "after_appraisal", "phase", "method", "procedure_code", "performed_on", "followed_on", "site", "surgeon",
    "phenotype", "syndrome", "laterality", "age_years", "before", "after", "change", "smallest_detectable",
    "verdict", "is_primary", "valid", "why_not",
)  # fmt: skip
_INSERT = (
    f"INSERT INTO outcome_change ({', '.join(_WRITTEN)})"  # noqa: S608 -- constant
    f" VALUES ({', '.join(f'%({name})s' for name in _WRITTEN)})"
    " ON CONFLICT (change_id, case_id, window_name, region)"
    " DO UPDATE SET valid = EXCLUDED.valid, why_not = EXCLUDED.why_not"
    " WHERE (outcome_change.valid, outcome_change.why_not) <> (EXCLUDED.valid, EXCLUDED.why_not)"
)


def save(connection: Connection, new: NewChange, regions: Iterable[RegionOutcome]) -> int:
    """Write a pair's regions; what is there already only takes its validity.

    Returns:
        How many rows are new or changed.
    """
    case = new.case
    laterality = None if case.laterality is None else case.laterality.value
    pair = (
        new.before_appraisal, new.after_appraisal, new.phase, new.method, case.code, case.performed_on,
        new.followed_on, case.site, case.surgeon, case.phenotype, case.syndrome, laterality, case.age_years,
    )  # fmt: skip
    rows = []
    for each in regions:
        name = (new.change_id, case.case_id, new.window, each.region.value, case.version, case.patient)
        found = (
            each.before, each.after, each.change, each.smallest_detectable, each.verdict.value, each.primary,
            each.why_not is None, each.why_not.value if each.why_not else "",
        )  # fmt: skip
        rows.append(dict(zip(_WRITTEN, (*name, *pair, *found), strict=True)))
    return sum(connection.execute(_INSERT, row).rowcount for row in rows)


def invalidate(
    connection: Connection, case_id: UUID, window: str, why_not: WhyNot, *, except_for: Sequence[UUID] = ()
) -> list[UUID]:
    """Take a window's changes out of the charts; returns the ids of those that were in them."""
    rows = connection.execute(
        "UPDATE outcome_change SET valid = false, why_not = %s WHERE case_id = %s AND window_name = %s"
        " AND valid AND change_id <> ALL(%s) RETURNING change_id",
        (why_not.value, case_id, window, list(except_for)),
    )
    return sorted({row["change_id"] for row in rows})


def windows_with_changes(connection: Connection, case_id: UUID) -> set[str]:
    """Names of a case's windows that have valid changes."""
    rows = connection.execute(
        "SELECT DISTINCT window_name FROM outcome_change WHERE case_id = %s AND valid", (case_id,)
    )
    return {row["window_name"] for row in rows}


_WHERE = (
    " WHERE c.region = %(region)s AND c.procedure_code = %(code)s AND c.window_name = %(window)s"
    " AND c.phase = %(phase)s AND c.performed_on BETWEEN %(since)s AND %(until)s AND c.valid"
    " AND (%(site)s::text = '' OR c.site = %(site)s) AND (%(surgeon)s::text = '' OR c.surgeon = %(surgeon)s)"
)
_COLUMNS = (
    "change_id", "performed_on", "followed_on", "site", "surgeon", "phenotype", "syndrome", "laterality",
    "age_years", "before", "after", "verdict", "method",
)  # fmt: skip


def _parameters(selection: Selection) -> dict[str, object]:
    return {name: getattr(selection, name) for name in Selection.__dataclass_fields__}


def table(connection: Connection, selection: Selection) -> ChangeTable:
    """The valid changes of a selection, in the order of the operations."""
    rows = (
        connection.cursor(row_factory=tuple_row)
        .execute(
            f"SELECT {', '.join(f'c.{name}' for name in _COLUMNS)} FROM outcome_change c"  # noqa: S608
            f"{_WHERE} ORDER BY c.performed_on, c.change_id, c.case_id",
            _parameters(selection),
        )
        .fetchall()
    )
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(_COLUMNS)
    named = dict(zip(_COLUMNS, columns, strict=True))

    def texts(name: str) -> np.ndarray[tuple[int], np.dtype[np.object_]]:
        return np.array(["" if value is None else str(value) for value in named[name]], object)

    def numbers(name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.array([np.nan if value is None else value for value in named[name]], np.float64)

    return ChangeTable(
        change_id=texts("change_id"),
        operated_on=np.array(named["performed_on"], "datetime64[D]"),
        followed_on=np.array(named["followed_on"], "datetime64[D]"),
        site=texts("site"),
        surgeon=texts("surgeon"),
        phenotype=texts("phenotype"),
        syndrome=np.array([bool(value) for value in named["syndrome"]], bool),
        laterality=texts("laterality"),
        age=numbers("age_years"),
        before=numbers("before"),
        after=numbers("after"),
        poor=np.array([value != "better" for value in named["verdict"]], bool),
        method=texts("method"),
    )


def unit_sums(connection: Connection, selection: Selection, by: Unit, risk_model_id: int) -> UnitSums:
    """Sums by site or surgeon, with what a risk model expects of each case.

    A change that the model says nothing of (it came later) is left out; its number is ``unexpected``.
    """
    rows = (
        connection.cursor(row_factory=tuple_row, binary=True)
        .execute(
            f"SELECT c.{by.value}, count(e.risk), coalesce(sum(c.change - e.change), 0),"  # noqa: S608
            " count(*) FILTER (WHERE e.risk IS NOT NULL AND c.verdict <> 'better'), coalesce(sum(e.risk), 0),"
            " array_agg(c.change_id) FILTER (WHERE e.risk IS NOT NULL), count(*) - count(e.risk)"
            " FROM outcome_change c LEFT JOIN expected e ON e.risk_model_id = %(risk_model)s"
            " AND e.change_id = c.change_id AND e.case_id = c.case_id"
            f"{_WHERE} GROUP BY 1 ORDER BY 1",
            {**_parameters(selection), "risk_model": risk_model_id},
        )
        .fetchall()
    )
    counted = [row for row in rows if row[1]]
    return UnitSums(
        names=np.array([row[0] for row in counted], object),
        cases=np.array([row[1] for row in counted], np.int64),
        residual=np.array([row[2] for row in counted], np.float64),
        observed=np.array([row[3] for row in counted], np.float64),
        expected=np.array([row[4] for row in counted], np.float64),
        evidence=tuple(tuple(map(str, row[5])) for row in counted),
        unexpected=sum(row[6] for row in rows),
    )


def monthly_means(connection: Connection, selection: Selection) -> MonthlyMeans:
    """Mean change by month of the operation."""
    rows = (
        connection.cursor(row_factory=tuple_row, binary=True)
        .execute(
            "SELECT date_trunc('month', c.performed_on)::date, avg(c.change), count(*), array_agg(c.change_id)"
            f" FROM outcome_change c{_WHERE} GROUP BY 1 ORDER BY 1",
            _parameters(selection),
        )
        .fetchall()
    )
    return MonthlyMeans(
        months=np.array([row[0] for row in rows], "datetime64[M]"),
        values=np.array([row[1] for row in rows], np.float64),
        cases=np.array([row[2] for row in rows], np.int64),
        evidence=tuple(tuple(map(str, row[3])) for row in rows),
    )


def denominators(connection: Connection, selection: Selection) -> Denominators:
    """Of whom the changes of a selection do not speak, and why."""
    rows = connection.execute(
        "SELECT state, reason, count(*) AS cases FROM outcome_state WHERE procedure_code = %(code)s"
        " AND window_name = %(window)s AND performed_on BETWEEN %(since)s AND %(until)s"
        " AND (%(site)s::text = '' OR site = %(site)s) AND (%(surgeon)s::text = '' OR surgeon = %(surgeon)s)"
        " GROUP BY state, reason ORDER BY state, reason",
        _parameters(selection),
    )
    counts: dict[WindowState, int] = dict.fromkeys(WindowState, 0)
    rejected: dict[str, int] = {}
    for row in rows:
        state = WindowState(row["state"])
        counts[state] += row["cases"]
        if state is WindowState.REJECTED:
            rejected[row["reason"]] = rejected.get(row["reason"], 0) + row["cases"]
    return Denominators(
        eligible=sum(counts.values()) - counts[WindowState.NOT_DUE],
        paired=counts[WindowState.PAIRED],
        missing_before=counts[WindowState.MISSING_BEFORE],
        missing_after=counts[WindowState.MISSING_AFTER],
        rejected=rejected,
        undecided=counts[WindowState.UNDECIDED],
        not_comparable=counts[WindowState.NOT_COMPARABLE],
        withdrawn=counts[WindowState.WITHDRAWN],
        no_consent=counts[WindowState.NO_CONSENT],
    )
