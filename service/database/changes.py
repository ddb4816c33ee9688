"""What was changed, by whom, why, and what it was before: as the ledger says it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import DictRow

from service.database.pool import Connection
from service.records import LedgerEvent


@dataclass(frozen=True, kw_only=True)
class RecordedChange:
    """A change that was made by a person, a sender or a new configuration (21 CFR 11.10(e))."""

    at: datetime  # aware
    by: str  # user, client, AE title, or process; "" where it is not known
    what: str  # event of the ledger, or table
    about: str  # UID, id or name of what was changed
    before: Mapping[str, str]  # values that differ, by name; empty where there was nothing before
    after: Mapping[str, str]
    reason: str  # "" where none was asked for: a sender's correction, a setting


_EVENTS = (
    LedgerEvent.ACTED,
    LedgerEvent.CORRECTED,
    LedgerEvent.NOTE_LIFTED,
    LedgerEvent.PATIENT_LINKED,
    LedgerEvent.PATIENT_UNLINKED,
    LedgerEvent.QUARANTINE_ENDED,
    LedgerEvent.RESTORED,
    LedgerEvent.RESULT_WITHDRAWN,
    LedgerEvent.SETTING_CHANGED,
    LedgerEvent.WITHDRAWN,
)
_HEADER = ("sha256", "transfer_syntax_uid", "study_instance_uid", "series_instance_uid", "patient_id",
           "issuer_of_patient_id")  # fmt: skip
_ABOUT = ("setting", "observation", "patient", "result", "note")
_BY = ("by", "calling_ae_title", "process")


def of_ledger(
    connection: Connection, since: datetime | None = None, limit: int = 1000
) -> list[RecordedChange]:
    """The newest changes that are lines of the ledger, newest first; what no program can read is left out.

    Args:
        connection: In a transaction.
        since: Aware; none before it. None: all.
        limit: How many at most.
    """
    header = ", ".join(f"'{name}', x.{name}" for name in _HEADER)
    at_version = "(SELECT * FROM instance_version WHERE instance_id = l.instance_id)"
    rows = connection.execute(
        "SELECT l.at, l.event, l.sop_instance_uid, l.detail::text AS detail,"  # noqa: S608 - names of ours
        f" (SELECT jsonb_build_object({header})::text FROM {at_version} AS x"
        "   WHERE l.event = 'corrected' AND (x.version + 1)::text = l.detail ->> 'version') AS before,"
        f" coalesce((SELECT jsonb_build_object({header})::text FROM instance AS x WHERE l.event = 'corrected'"
        "   AND x.instance_id = l.instance_id AND x.version::text = l.detail ->> 'version'),"
        f" (SELECT jsonb_build_object({header})::text FROM {at_version} AS x"
        "   WHERE l.event = 'corrected' AND x.version::text = l.detail ->> 'version')) AS after"
        " FROM ledger l WHERE l.event = ANY(%(events)s) AND l.at >= '0001-01-02' AND l.at < '9999-12-31'"
        " AND (%(since)s::timestamptz IS NULL OR l.at >= %(since)s)"
        " ORDER BY l.ledger_id DESC LIMIT %(limit)s",
        {"events": [each.value for each in _EVENTS], "since": since, "limit": limit},
    )
    return [told for row in rows if (told := _of_line(row)) is not None]


def _of_line(row: DictRow) -> RecordedChange | None:
    detail: object = None
    with suppress(ValueError, RecursionError):
        detail = json.loads(row["detail"])
    if not isinstance(detail, dict):
        return None
    said = {name: str(value) for name, value in detail.items()}
    before, after = _values(row, said)
    return RecordedChange(
        at=row["at"],
        by=next((said[name] for name in _BY if said.get(name)), ""),
        what=row["event"],
        about=" ".join(
            filter(None, (row["sop_instance_uid"], *(said[name] for name in _ABOUT if said.get(name))))
        ),
        before=before,
        after=after,
        reason=said.get("reason", said.get("title", "")),
    )


def _values(row: DictRow, said: Mapping[str, str]) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Of a correction what differs in the header; of others what the line says."""
    if row["before"] and row["after"]:
        return differing(json.loads(row["before"]), json.loads(row["after"]))
    name = said.get("setting", "value")
    before = {name: said["before"]} if "before" in said else {}
    if "after" in said:
        return before, {name: said["after"]}
    rest = {key: said[key] for key in ("resolution", "version", "page", "sha256") if key in said}
    return before, rest


def differing(
    before: Mapping[str, object] | None, after: Mapping[str, object]
) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Of two states the values that differ, as text; of a first one all that are not empty."""
    if before is None:
        return {}, {name: str(value) for name, value in after.items() if value not in (None, "")}
    names = [name for name in after if after[name] != before.get(name)]
    return {name: str(before.get(name)) for name in names}, {name: str(after[name]) for name in names}
