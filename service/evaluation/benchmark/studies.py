"""Tables of figures that a benchmark yields beside its trial, and how they are written down."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from service.evaluation.benchmark.measures import bootstrap_interval
from service.evaluation.benchmark.summary import FIGURES, Figure, Summary

_ABBREVIATIONS = frozenset({"auroc", "icc", "pro", "sd"})
Cell: TypeAlias = Figure | int | None  # None: not told, for want of faces or because it has no meaning
Rows: TypeAlias = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class StudyTable:
    """One table: rows of named things, columns of figures."""

    name: str  # key in JSON
    title: str
    note: str  # how it was measured, in a sentence or two
    columns: tuple[str, ...]  # without that of the rows' names
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def figure_of(count: int, figure: Callable[[Rows], float], *, repeats: int) -> Figure:
    """A figure of rows 0..count-1 with its interval over resampled rows."""

    def resampled(drawn: Sequence[int]) -> float:
        return figure(np.array(drawn, np.intp))

    low, high = bootstrap_interval(range(count), resampled, repeats=repeats)
    return Figure(value=resampled(range(count)), low=low, high=high)


def trial_table(summary: Summary) -> StudyTable:
    """The trial's figures by anomaly type."""
    return StudyTable(
        name="types",
        title="Synthetic validity by type of anomaly",
        note=f"{summary.subjects} faces; {summary.milliseconds:.0f} ms an image, everything included.",
        columns=FIGURES,
        rows=tuple((kind, tuple(row[name] for name in FIGURES)) for kind, row in summary.types.items()),
    )


def rejection_table(summary: Summary) -> StudyTable:
    """How many images the method refused to judge, and why: clean ones, and those of each type."""
    kinds = tuple(summary.rejections)
    found = [summary.rejections[kind] for kind in kinds]
    totals: Counter[str] = Counter()
    for one in found:
        totals.update(one.reasons)
    return StudyTable(
        name="rejections",
        title="Why images were rejected",
        note="Numbers of images; one may be rejected for several reasons.",
        columns=kinds,
        rows=(
            ("images", tuple(one.images for one in found)),
            ("rejected", tuple(one.rejected for one in found)),
            *(
                (reason, tuple(one.reasons.get(reason, 0) for one in found))
                for reason, _ in totals.most_common()
            ),
        ),
    )


def as_json(table: StudyTable) -> dict[str, object]:
    """Row -> column -> number, or value with its interval; null where there is none."""
    return {
        name: {column: _json_cell(cell) for column, cell in zip(table.columns, cells, strict=True)}
        for name, cells in table.rows
    }


def _json_cell(cell: Cell) -> object:
    if not isinstance(cell, Figure):
        return cell
    return {"value": _plain(cell.value), "low": _plain(cell.low), "high": _plain(cell.high)}


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def heading(column: str) -> str:
    """A column's name for people."""
    words = column.replace("_", " ").split(" ")
    return " ".join(word.upper() if word in _ABBREVIATIONS else word for word in words)


def cell_text(cell: Cell) -> str:
    """A cell for people: the value, and its interval in brackets where there is one."""
    if cell is None or (isinstance(cell, Figure) and math.isnan(cell.value)):
        return "–"
    if isinstance(cell, int):
        return str(cell)
    if math.isnan(cell.low):
        return f"{cell.value:.2f}"
    return f"{cell.value:.2f} ({cell.low:.2f} to {cell.high:.2f})"


def as_markdown(table: StudyTable) -> str:
    """A heading, the note and the table, as Markdown."""
    head = ["", *(heading(column) for column in table.columns)]
    lines = [f"### {table.title}", "", table.note, "", _line(head), _line(["---"] * len(head))]
    lines += [_line([name, *(cell_text(cell) for cell in cells)]) for name, cells in table.rows]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
