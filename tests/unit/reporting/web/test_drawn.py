"""Charts that were drawn a moment ago."""

from __future__ import annotations

import pytest

from reporting.outcomes.charts.records import Chart, ChartKind
from reporting.outcomes.database.changes import Selection
from reporting.outcomes.drawing import Asked
from reporting.web import drawn
from reporting.web.drawn import LASTS_S, DrawnCharts
from service.errors import OutcomeError


def asked(region: str = "face") -> Asked:
    selection = Selection(code="a", window="12 months", region=region, phase="new")
    return Asked(kind=ChartKind.XMR, selection=selection)


def chart(title: str) -> Chart:
    return Chart(kind=ChartKind.XMR, title=title, subject="", x_label="month", tracks=())


def test_a_chart_is_drawn_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [1000.0]
    monkeypatch.setattr(drawn.time, "monotonic", lambda: now_s[0])
    charts = DrawnCharts()
    made: list[Chart] = []

    def draw() -> Chart:
        made.append(chart(str(len(made))))
        return made[-1]

    assert [charts.get(asked(), draw).title for _ in range(3)] == ["0", "0", "0"]
    assert charts.get(asked("nose"), draw).title == "1"
    now_s[0] += LASTS_S
    assert charts.get(asked(), draw).title == "2"
    charts.forget()
    assert charts.get(asked(), draw).title == "3"


def test_what_cannot_be_drawn_is_tried_again() -> None:
    charts = DrawnCharts()

    def fail() -> Chart:
        raise OutcomeError("too few")

    with pytest.raises(OutcomeError):
        charts.get(asked(), fail)
    assert charts.get(asked(), lambda: chart("there")).title == "there"


def test_only_so_many_are_kept() -> None:
    charts = DrawnCharts()
    for number in range(40):
        charts.get(asked(str(number)), lambda: chart("old"))
    assert charts.get(asked("39"), lambda: chart("new")).title == "old"
    assert charts.get(asked("0"), lambda: chart("new")).title == "new"
