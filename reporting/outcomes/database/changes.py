"""Changes: written once, their validity followed, and read for charts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

import numpy as np
from psycopg.rows import DictRow, tuple_row

from reporting.outcomes.charts.records import ChangeTable, Denominators
from reporting.outcomes.charts.sums import MonthlyMeans, UnitSums
from reporting.outcomes.charts.units import Unit
from reporting.outcomes.records import ProcedureCase, RegionOutcome, WhyNot
from reporting.outcomes.states import WindowState
from service.appraisal.change import Verdict
from service.database import appraisals
from service.database.pool import Connection
from service.records import MethodIdentity, Region


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
    phenotype: str = ""
    youngest: float | None = None  # years of age at the operation, inclusive
    oldest: float | None = None  # exclusive

    @property
    def is_of_some(self) -> bool:
        """Whether patients are chosen by what they are: phenotype or age."""
        return bool(self.phenotype) or self.youngest is not None or self.oldest is not None


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


@dataclass(frozen=True, kw_only=True)
class KnownChange:
    """A row that is there, in short."""

    change_id: UUID
    case_id: UUID
    window: str
    region: str
    case_version: int
    valid: bool
    why_not: str

    @property
    def name(self) -> tuple[UUID, UUID, str, str]:
        """What it is known by."""
        return self.change_id, self.case_id, self.window, self.region


def known(connection: Connection, case_ids: Sequence[UUID]) -> list[KnownChange]:
    """The changes of some cases, valid or not."""
    rows = connection.execute(
        "SELECT change_id, case_id, window_name AS window, region, case_version, valid, why_not"
        " FROM outcome_change WHERE case_id = ANY(%s)",
        (list(case_ids),),
    )
    return [KnownChange(**row) for row in rows]


def add(connection: Connection, made: Iterable[tuple[NewChange, RegionOutcome]]) -> None:
    """Write changes that are not there, a row a region."""
    made = list(made)
    if not made:
        return
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY outcome_change ({', '.join(_WRITTEN)}) FROM STDIN") as copy,
    ):
        for new, each in made:
            case = new.case
            copy.write_row(
                (
                    new.change_id, case.case_id, new.window, each.region.value, case.version, case.patient,
                    new.before_appraisal, new.after_appraisal, new.phase, new.method, case.code,
                    case.performed_on, new.followed_on, case.site, case.surgeon, case.phenotype,
                    case.syndrome, None if case.laterality is None else case.laterality.value,
                    case.age_years, each.before, each.after, each.change, each.smallest_detectable,
                    each.verdict.value, each.primary, each.why_not is None,
                    each.why_not.value if each.why_not else "",
                )
            )  # fmt: skip


def set_validity(connection: Connection, rows: Iterable[tuple[KnownChange, WhyNot | None]]) -> None:
    """Say of changes that are there whether they are valid, and if not why."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "UPDATE outcome_change SET valid = %s, why_not = %s"
            " WHERE (change_id, case_id, window_name, region) = (%s, %s, %s, %s)",
            [(why is None, why.value if why else "", *row.name) for row, why in rows],
        )


def follow_case(connection: Connection, case: ProcedureCase) -> None:
    """Have the changes of a case say what its newest version says of the operation."""
    connection.execute(
        "UPDATE outcome_change SET case_version = %s, patient = %s, procedure_code = %s, performed_on = %s,"
        " site = %s, surgeon = %s, phenotype = %s, syndrome = %s, laterality = %s, age_years = %s"
        " WHERE case_id = %s AND case_version < %s",
        (
            case.version, case.patient, case.code, case.performed_on, case.site, case.surgeon, case.phenotype,
            case.syndrome, None if case.laterality is None else case.laterality.value, case.age_years,
            case.case_id, case.version,
        ),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class StoredChange:
    """A change as it is kept, with all its regions."""

    change_id: UUID
    case_id: UUID
    window: str
    before_appraisal: UUID
    after_appraisal: UUID
    method: str
    method_identity: MethodIdentity
    followed_on: date
    followed_at: datetime | None  # aware; None when only the day is known
    created_at: datetime
    regions: tuple[RegionOutcome, ...]

    @property
    def counts(self) -> bool:
        """Whether it stands; one whose regions could not all be scored does."""
        return any(each.why_not in (None, WhyNot.NOT_SCORED) for each in self.regions)


def stored(connection: Connection, change_id: UUID, case_id: UUID, window: str) -> StoredChange | None:
    """Read a change; None when there is none."""
    rows = connection.execute(
        "SELECT c.region, c.before, c.after, c.smallest_detectable, c.verdict, c.is_primary, c.why_not,"
        " c.before_appraisal, c.after_appraisal, c.method, c.followed_on, c.created_at, p.acquired_at"
        " FROM outcome_change c JOIN appraisal a ON a.appraisal_id = c.after_appraisal"
        " LEFT JOIN outcome_photograph p ON p.instance_id = a.instance_id"
        " WHERE (c.change_id, c.case_id, c.window_name) = (%s, %s, %s)",
        (change_id, case_id, window),
    ).fetchall()
    if not rows:
        return None
    first = rows[0]
    by_region = {row["region"]: row for row in rows}
    return StoredChange(
        change_id=change_id,
        case_id=case_id,
        window=window,
        before_appraisal=first["before_appraisal"],
        after_appraisal=first["after_appraisal"],
        method=first["method"],
        method_identity=appraisals.get(connection, first["after_appraisal"]).appraisal.method,
        followed_on=first["followed_on"],
        followed_at=first["acquired_at"],
        created_at=first["created_at"],
        regions=tuple(_outcome(by_region[each.value]) for each in Region if each.value in by_region),
    )


def _outcome(row: DictRow) -> RegionOutcome:
    return RegionOutcome(
        region=Region(row["region"]),
        before=row["before"],
        after=row["after"],
        smallest_detectable=row["smallest_detectable"],
        verdict=Verdict(row["verdict"]),
        primary=row["is_primary"],
        why_not=WhyNot(row["why_not"]) if row["why_not"] else None,
    )


_WHERE = (
    " WHERE c.region = %(region)s AND c.procedure_code = %(code)s AND c.window_name = %(window)s"
    " AND c.phase = %(phase)s AND c.performed_on BETWEEN %(since)s AND %(until)s AND c.valid"
    " AND (%(site)s::text = '' OR c.site = %(site)s) AND (%(surgeon)s::text = '' OR c.surgeon = %(surgeon)s)"
    " AND (%(phenotype)s::text = '' OR c.phenotype = %(phenotype)s)"
    " AND (%(youngest)s::float8 IS NULL OR c.age_years >= %(youngest)s)"
    " AND (%(oldest)s::float8 IS NULL OR c.age_years < %(oldest)s)"
)
_IDS = "string_agg(c.change_id::text, ',')"  # quicker to read than an array
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


def _exact(value: str) -> str:
    """SQL of a sum that is the same whatever the order of its rows: of billionths, as whole numbers."""
    return f"coalesce(sum(round(({value}) * 1e9)::bigint), 0)::float8 / 1e9"


def unit_sums(connection: Connection, selection: Selection, by: Unit, risk_model_id: int) -> UnitSums:
    """Sums by site or surgeon, with what a risk model expects of each case.

    A change that the model says nothing of (it came later) is left out; its number is ``unexpected``.
    """
    rows = (
        connection.cursor(row_factory=tuple_row, binary=True)
        .execute(
            f"SELECT c.{by.value}, count(e.risk), {_exact('c.change - e.change')},"  # noqa: S608
            f" count(*) FILTER (WHERE e.risk IS NOT NULL AND c.verdict <> 'better'), {_exact('e.risk')},"
            f" {_IDS} FILTER (WHERE e.risk IS NOT NULL), count(*) - count(e.risk)"
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
        evidence=tuple(tuple(sorted(row[5].split(","))) for row in counted),
        unexpected=sum(row[6] for row in rows),
    )


def monthly_means(connection: Connection, selection: Selection) -> MonthlyMeans:
    """Mean change by month of the operation."""
    rows = (
        connection.cursor(row_factory=tuple_row, binary=True)
        .execute(
            "SELECT date_trunc('month', day::timestamp)::date, sum(total) / sum(cases), sum(cases)::bigint,"  # noqa: S608
            f" string_agg(ids, ',') FROM (SELECT c.performed_on AS day, {_exact('c.change')} AS total,"
            f" count(*) AS cases, {_IDS} AS ids FROM outcome_change c{_WHERE} GROUP BY 1) AS days"
            " GROUP BY 1 ORDER BY 1",
            _parameters(selection),
        )
        .fetchall()
    )
    return MonthlyMeans(
        months=np.array([row[0] for row in rows], "datetime64[M]"),
        values=np.array([row[1] for row in rows], np.float64),
        cases=np.array([row[2] for row in rows], np.int64),
        evidence=tuple(tuple(sorted(row[3].split(","))) for row in rows),
    )


# What a case's newest version says of its patient.
_OF_SOME = (
    " AND EXISTS (SELECT FROM (SELECT phenotype, (performed_on - born_on) / 365.25 AS age"
    " FROM procedure_case v WHERE v.case_id = s.case_id ORDER BY version DESC LIMIT 1) AS newest"
    " WHERE (%(phenotype)s::text = '' OR newest.phenotype = %(phenotype)s)"
    " AND (%(youngest)s::float8 IS NULL OR newest.age >= %(youngest)s)"
    " AND (%(oldest)s::float8 IS NULL OR newest.age < %(oldest)s))"
)


def denominators(connection: Connection, selection: Selection) -> Denominators:
    """Of whom the changes of a selection do not speak, and why."""
    rows = connection.execute(
        "SELECT state, reason, count(*) AS cases FROM outcome_state s WHERE procedure_code = %(code)s"  # noqa: S608
        " AND window_name = %(window)s AND performed_on BETWEEN %(since)s AND %(until)s"
        " AND (%(site)s::text = '' OR site = %(site)s) AND (%(surgeon)s::text = '' OR surgeon = %(surgeon)s)"
        f"{_OF_SOME if selection.is_of_some else ''} GROUP BY state, reason ORDER BY state, reason",
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
