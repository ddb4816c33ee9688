"""The benchmark's HTML report: one file, nothing fetched from anywhere."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import cv2
import jinja2
import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape

from service.evaluation.benchmark.studies import Cell, StudyTable, cell_text, heading, rejection_table
from service.evaluation.benchmark.summary import FIGURES, Summary
from service.evaluation.benchmark.trial import Sheet

_COLUMN_PX = 128
_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Semblance benchmark</title><style>
body{font:15px/1.5 system-ui,sans-serif;max-width:1150px;margin:2rem auto;padding:0 1rem;color:#1d2733}
table{border-collapse:collapse;margin:1rem 0}th,td{padding:.3rem .7rem;border-bottom:1px solid #d5dbe1;
text-align:right}th:first-child,td:first-child{text-align:left;white-space:nowrap}small{color:#667}
img{max-width:100%}.wide{overflow-x:auto}h3{margin-top:2rem}
</style></head><body>
<h1>Synthetic validity</h1>
<p>{{ note }}</p>
{% for name in methods %}
<h2>{{ name }}</h2>
{% if name in summaries %}{% set summary = summaries[name] %}
<p>{{ summary.subjects }} faces, {{ "%.0f"|format(summary.milliseconds) }} ms an image.</p>
<div class="wide"><table><tr><th>type</th>
{% for figure in figures %}<th>{{ figure|heading }}</th>{% endfor %}</tr>
{% for kind, row in summary.types.items() %}<tr><td>{{ kind }}</td>
{% for figure in figures %}<td>{{ "%.2f"|format(row[figure].value) }}
{% if row[figure].low == row[figure].low %}<br><small>{{ "%.2f"|format(row[figure].low) }} to
{{ "%.2f"|format(row[figure].high) }}</small>{% endif %}</td>{% endfor %}</tr>
{% endfor %}</table></div>
{% endif %}{% for table in tables.get(name, ()) %}
<h3>{{ table.title }}</h3><p>{{ table.note }}</p>
<div class="wide"><table><tr><th></th>
{% for column in table.columns %}<th>{{ column|heading }}</th>{% endfor %}</tr>
{% for row, cells in table.rows %}<tr><td>{{ row }}</td>
{% for cell in cells %}<td>{{ cell|figure }}</td>{% endfor %}</tr>
{% endfor %}</table></div>
{% endfor %}{% if sheets[name] %}<h3>What was shown</h3>
<p>Each pair: the image, and the method's difference map over it; the
true outline is green. One row a face, one column a type.</p>
<img alt="contact sheet of {{ name }}" src="data:image/png;base64,{{ sheets[name] }}">
{% endif %}{% endfor %}
</body></html>
"""
NOTE = (
    "Anomalies are synthetic: displaced or painted on photographs of normal faces by a known amount. "
    "The figures say how well a method finds, ranks and localises those. They are no evidence of "
    "agreement with human raters or of clinical benefit. AUROC compares anomalous faces (severity "
    "at least .5; subtle: .25) with sham-resampled faces of all subjects; intervals are 95 %, "
    "bootstrapped by subject. The oracle compares each face with its true normal version."
)


def write_report(
    path: Path,
    summaries: Sequence[Summary],
    sheets: Mapping[str, Sequence[Sheet]],
    tables: Mapping[str, Sequence[StudyTable]] = MappingProxyType({}),
) -> None:
    """Write the report.

    Args:
        path: of the HTML file.
        summaries: one a method whose trial was run.
        sheets: images kept for each method, in the order they were shown.
        tables: of each method, the studies made of it.
    """
    environment = jinja2.Environment(autoescape=True, trim_blocks=True)
    environment.filters["figure"] = _figure
    environment.filters["heading"] = heading
    text = environment.from_string(_TEMPLATE).render(
        methods=tuple(dict.fromkeys((*(summary.method for summary in summaries), *tables))),
        summaries={summary.method: summary for summary in summaries},
        figures=FIGURES,
        note=NOTE,
        sheets={name: _encoded(kept) for name, kept in sheets.items()},
        tables=_with_rejections(summaries, tables),
    )
    path.write_text(text, encoding="utf-8")


def _with_rejections(
    summaries: Sequence[Summary], tables: Mapping[str, Sequence[StudyTable]]
) -> Mapping[str, Sequence[StudyTable]]:
    own = {summary.method: (rejection_table(summary),) for summary in summaries}
    return {name: (*own.get(name, ()), *tables.get(name, ())) for name in (*own, *tables)}


def _figure(cell: Cell) -> Markup:
    """A cell with its interval small and below."""
    value, _, interval = cell_text(cell).partition(" (")
    if not interval:
        return escape(value)
    return escape(value) + Markup("<br><small>{}</small>").format(interval.removesuffix(")"))


def _encoded(kept: Sequence[Sheet]) -> str:
    if not kept:
        return ""
    _, packed = cv2.imencode(".png", contact_sheet(kept)[..., ::-1])
    return base64.b64encode(packed.tobytes()).decode()


def contact_sheet(kept: Sequence[Sheet]) -> npt.NDArray[np.uint8]:
    """Pairs of image and map: one row a sham and its anomalies, (H, W, 3) uint8, sRGB."""
    rows: list[list[npt.NDArray[np.uint8]]] = []
    for sheet in kept:
        if sheet.kind == "sham":
            rows.append([])
        rows[-1].append(_pair(sheet))
    widest = max(len(row) for row in rows)
    blank = np.full((_COLUMN_PX, 2 * _COLUMN_PX, 3), 255, np.uint8)
    return np.vstack([np.hstack(row + [blank] * (widest - len(row))) for row in rows])


def _pair(sheet: Sheet) -> npt.NDArray[np.uint8]:
    image = sheet.rendered.image
    shown = image.copy()
    difference = sheet.judged.difference
    if difference is not None and np.isfinite(difference).any():
        values = np.nan_to_num(difference, nan=0.0)
        scaled = np.clip(255 * values / max(float(np.nanmax(difference)), 1e-6), 0, 255)
        colours = cv2.applyColorMap(scaled.astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
        shown = np.asarray(cv2.addWeighted(image, 0.4, np.ascontiguousarray(colours), 0.6, 0), np.uint8)
    outline, _ = cv2.findContours(
        sheet.rendered.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    cv2.drawContours(shown, outline, -1, (0, 255, 0), max(image.shape[0] // 256, 1))
    side = (_COLUMN_PX, _COLUMN_PX)
    small = [cv2.resize(np.ascontiguousarray(p), side, interpolation=cv2.INTER_AREA) for p in (image, shown)]
    label = f"{sheet.kind} {sheet.severity:g}"
    cv2.putText(small[0], label, (3, 11), cv2.FONT_HERSHEY_SIMPLEX, 0.33, (255, 255, 0), 1, cv2.LINE_AA)
    return np.asarray(np.hstack(small), np.uint8)
