"""Charts and changes as CSV and NDJSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from io import StringIO
from math import isnan
from typing import Any

from reporting.outcomes.charts.records import ChangeTable, Chart, Floats

_FORMULA = ("=", "+", "-", "@", "\t")  # what a spreadsheet would run

CHART_COLUMNS = (
    "chart", "subject", "track", "unit", "label", "x", "value", "cases", "lower", "centre", "upper",
    "inner_lower", "inner_upper", "signals", "evidence",
)  # fmt: skip
CHANGE_COLUMNS = (
    "change_id", "operated_on", "followed_on", "site", "surgeon", "phenotype", "syndrome", "laterality",
    "age", "before", "after", "change", "poor", "method",
)  # fmt: skip


def chart_rows(chart: Chart) -> Iterator[dict[str, Any]]:
    """One row a point."""
    for track in chart.tracks:
        for point in track.points:
            values = asdict(point)
            values["signals"] = list(point.signals)
            values["evidence"] = list(point.evidence)
            named = {"chart": chart.title, "subject": chart.subject, "track": track.name, "unit": track.unit}
            yield {name: ({**named, **values})[name] for name in CHART_COLUMNS}


def change_rows(changes: ChangeTable) -> Iterator[dict[str, Any]]:
    """One row a change."""

    def number(values: Floats, index: int) -> float | None:
        value = float(values[index])
        return None if isnan(value) else round(value, 6)

    for i in range(len(changes)):
        yield {
            "change_id": str(changes.change_id[i]),
            "operated_on": str(changes.operated_on[i]),
            "followed_on": str(changes.followed_on[i]),
            "site": str(changes.site[i]),
            "surgeon": str(changes.surgeon[i]),
            "phenotype": str(changes.phenotype[i]),
            "syndrome": bool(changes.syndrome[i]),
            "laterality": str(changes.laterality[i]),
            "age": number(changes.age, i),
            "before": number(changes.before, i),
            "after": number(changes.after, i),
            "change": number(changes.change, i),
            "poor": bool(changes.poor[i]),
            "method": str(changes.method[i]),
        }


def as_csv(rows: Iterable[dict[str, Any]], columns: Iterable[str]) -> str:
    """RFC 4180 with a header; lists are joined by spaces.

    A text that a spreadsheet would run as a formula is set after an apostrophe.
    """
    stream = StringIO()
    writer = csv.writer(stream)
    names = list(columns)
    writer.writerow(names)
    writer.writerows([[_cell(row[name]) for name in names] for row in rows])
    return stream.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def as_ndjson(rows: Iterable[dict[str, Any]]) -> str:
    """One JSON object a line."""
    return "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)


def chart_document(chart: Chart) -> dict[str, Any]:
    """A whole chart as one JSON document: points, phases, denominators and what it was made from."""
    made = asdict(chart)
    made["kind"] = chart.kind.value
    made["made_from"] = dict(chart.made_from)
    return made
