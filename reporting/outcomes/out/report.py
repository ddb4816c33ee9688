"""A report of outcomes as PDF (PDF/UA-1, tagged) by typst, with the charts as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import typst
from jinja2 import Environment, PackageLoader

from reporting.outcomes.charts.records import Chart
from reporting.outcomes.out.svg import draw_svg
from service.errors import OutcomeError

_MOST_SIGNALS = 40  # listed of a chart; the chart itself shows all


def make_pdf(charts: Sequence[Chart], *, title: str, organisation: str, notes: Sequence[str] = ()) -> bytes:
    """Make the PDF; the same charts give the same text.

    Args:
        charts: In their order.
        title: Of the report.
        organisation: Whose it is.
        notes: What could not be charted, and why.

    Raises:
        OutcomeError: There is no chart, or typst refuses.
    """
    if not charts:
        raise OutcomeError("there is no chart to report: " + "; ".join(notes))
    environment = Environment(  # noqa: S701 -- typst, whose own escape is a filter below
        loader=PackageLoader("reporting.outcomes.out"), trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["typst"] = literal
    source = environment.get_template("report.typ.j2").render(
        title=title,
        organisation=organisation,
        notes=notes,
        charts=[
            {
                "file": f"chart-{number}.svg",
                "chart": chart,
                "denominators": chart.denominators.lines if chart.denominators else (),
                "signals": chart.signals[:_MOST_SIGNALS],
                "more": max(0, len(chart.signals) - _MOST_SIGNALS),
            }
            for number, chart in enumerate(charts)
        ],
    )
    with TemporaryDirectory(prefix="semblance-report-") as folder:
        place = Path(folder)
        for number, chart in enumerate(charts):
            (place / f"chart-{number}.svg").write_text(draw_svg(chart), encoding="utf-8")
        (place / "report.typ").write_text(source, encoding="utf-8")
        try:
            made = typst.compile(place / "report.typ", root=place, pdf_standards=["ua-1"])
        except RuntimeError as exc:
            raise OutcomeError(f"typst: {exc}") from exc
    return bytes(made)


def literal(text: object) -> str:
    """A text as a typst string literal: nothing in it is markup or code."""
    escaped = str(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ").replace("\r", " ")
    return f'"{escaped}"'
