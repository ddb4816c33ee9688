"""What persons decided on surgical outcomes, with what it was before: phases, windows, operations, pairs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType

from service.database.changes import RecordedChange, differing
from service.database.pool import Connection

# Table: what a row is about, which rows are states of the same thing, their order, values, and the reason.
_TOLD: Mapping[str, tuple[str, str, str, tuple[str, ...], str]] = MappingProxyType(
    {
        "annotation": ("on_day::text", "annotation_id", "annotation_id", ("procedure_code", "note"), "''"),
        "outcome_window": (
            "code || ' ' || name", "code, name", "version",
            ("version", "role", "anchor", "target", "earliest", "latest"), "reason",
        ),
        "pairing_decision": (
            "case_id || ' ' || window_name", "case_id, window_name", "pairing_decision_id",
            ("instance_id",), "reason",
        ),
        "phase": (
            "procedure_code || ' ' || method", "procedure_code, method", "phase_id",
            ("phase", "begins_on"), "reason",
        ),
        "procedure_case": (
            "case_id::text", "case_id", "version",
            ("version", "code_system", "code", "performed_on", "patient", "site", "surgeon", "phenotype",
             "syndrome", "laterality", "severity_before", "born_on", "consent", "active"), "reason",
        ),
        "risk_model": (
            "concat_ws(' ', procedure_code, window_name, region, phase)",
            "procedure_code, window_name, region, phase", "version", ("version", "data_sha256"), "reason",
        ),
        "signal_acknowledgement": (
            "signal_id::text", "signal_id", "signal_acknowledgement_id", ("resets_on",), "reason",
        ),
    }
)  # fmt: skip


def decided(connection: Connection, since: datetime | None = None, limit: int = 1000) -> list[RecordedChange]:
    """The newest decisions, newest first; of an operation that is new all its values are ``after``.

    Args:
        connection: In a transaction.
        since: Aware; none before it. None: all.
        limit: How many at most.
    """
    parts = [
        f"SELECT '{table}' AS what, created_at AS at, author, {about} AS about, {reason} AS reason,"  # noqa: S608
        f" lag({_object(values)}) OVER (PARTITION BY {same} ORDER BY {order}) AS before,"
        f" {_object(values)} AS after FROM {table}"
        for table, (about, same, order, values, reason) in _TOLD.items()
    ]
    statement = (
        f"SELECT * FROM ({' UNION ALL '.join(parts)}) AS told"  # noqa: S608 - names of this module
        " WHERE isfinite(at) AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)"
        " ORDER BY at DESC LIMIT %(limit)s"
    )
    rows = connection.execute(statement.encode(), {"since": since, "limit": limit})
    found = []
    for row in rows:
        before, after = differing(row["before"], row["after"])
        found.append(
            RecordedChange(
                at=row["at"], by=row["author"], what=row["what"], about=row["about"].strip(),
                before=before, after=after, reason=row["reason"],
            )
        )  # fmt: skip
    return found


def _object(values: tuple[str, ...]) -> str:
    pairs = ", ".join(f"'{name}', {name}" for name in values)
    return f"jsonb_build_object({pairs})"
