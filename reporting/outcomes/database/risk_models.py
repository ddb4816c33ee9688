"""Risk models, by version, and what they expect of each change."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from reporting.outcomes.database.changes import Selection
from reporting.outcomes.risk_model import CaseMix, RiskModel
from reporting.outcomes.statistics.risk import Coefficients, LinearModel, Performance
from service.database.pool import Connection


@dataclass(frozen=True, kw_only=True)
class StoredRiskModel:
    """A risk model as it is kept."""

    risk_model_id: int
    version: int
    model: RiskModel
    data_sha256: str  # of the changes it was fitted to
    author: str
    reason: str
    created_at: datetime


_SELECT = (
    "SELECT risk_model_id, version, model, performance, data_sha256, author, reason, created_at"
    " FROM risk_model"
    " WHERE (procedure_code, window_name, region, phase) = (%s, %s, %s, %s)"
)


def _key(selection: Selection) -> tuple[str, str, str, str]:
    return selection.code, selection.window, selection.region, selection.phase


def _stored(row: DictRow) -> StoredRiskModel:
    raw = row["model"]
    mix = raw["case_mix"]
    return StoredRiskModel(
        risk_model_id=row["risk_model_id"],
        version=row["version"],
        model=RiskModel(
            case_mix=CaseMix(
                **{
                    **mix,
                    "phenotypes": tuple(mix["phenotypes"]),
                    "lateralities": tuple(mix["lateralities"]),
                }
            ),
            poor=_coefficients(raw["poor"]),
            change=LinearModel(
                coefficients=_coefficients(raw["change"]["coefficients"]),
                residual_sd=raw["change"]["residual_sd"],
            ),
            performance=Performance(**row["performance"]),
        ),
        data_sha256=row["data_sha256"],
        author=row["author"],
        reason=row["reason"],
        created_at=row["created_at"],
    )


def _coefficients(raw: dict[str, list[float]]) -> Coefficients:
    return Coefficients(names=tuple(map(str, raw["names"])), values=tuple(raw["values"]))


def newest(connection: Connection, selection: Selection) -> StoredRiskModel | None:
    """The newest version for a selection; None when none was fitted."""
    row = connection.execute(_SELECT + " ORDER BY version DESC LIMIT 1", _key(selection)).fetchone()
    return _stored(row) if row else None


def add(
    connection: Connection,
    selection: Selection,
    model: RiskModel,
    *,
    data_sha256: str,
    author: str,
    reason: str,
) -> int:
    """Keep a model as the next version; returns its id."""
    connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended(%s, 143))", ("/".join(_key(selection)),)
    )
    current = newest(connection, selection)
    raw = asdict(model)
    performance = raw.pop("performance")
    row = connection.execute(
        "INSERT INTO risk_model (procedure_code, window_name, region, phase, version, model, performance,"
        " data_sha256, reason, author) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
        " RETURNING risk_model_id",
        (
            *_key(selection), current.version + 1 if current else 1, Jsonb(raw, dumps=json.dumps),
            Jsonb(performance), data_sha256, reason, author,
        ),
    ).fetchone()  # fmt: skip
    assert row is not None  # noqa: S101 - RETURNING of an insert
    return int(row["risk_model_id"])


def expect(
    connection: Connection, risk_model_id: int, rows: Sequence[tuple[UUID, UUID, float, float]]
) -> None:
    """Keep what a model expects: change, case, risk of a poor outcome, expected change."""
    with (
        connection.cursor() as cursor,
        cursor.copy("COPY expected (risk_model_id, change_id, case_id, risk, change) FROM STDIN") as copy,
    ):
        for row in rows:
            copy.write_row((risk_model_id, *row))


def unexpected(connection: Connection, selection: Selection, risk_model_id: int) -> list[tuple[UUID, UUID]]:
    """Valid changes of a selection that a model says nothing of yet: change and case."""
    rows = connection.execute(
        "SELECT c.change_id, c.case_id FROM outcome_change c WHERE c.procedure_code = %s"
        " AND c.window_name = %s AND c.region = %s AND c.phase = %s AND c.valid AND NOT EXISTS (SELECT"
        " FROM expected e WHERE e.risk_model_id = %s"
        " AND (e.change_id, e.case_id) = (c.change_id, c.case_id))",
        (*_key(selection), risk_model_id),
    )
    return [(row["change_id"], row["case_id"]) for row in rows]
