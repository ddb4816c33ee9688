"""Charts, exports, reports and the MeasureReport of a simulated clinic in the database."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from datetime import date
from io import StringIO
from pathlib import Path
from uuid import uuid4

import pytest
from fhir.resources.R4B.measure import Measure
from fhir.resources.R4B.measurereport import MeasureReport

from reporting.fhir.render import dumps
from reporting.outcomes.charts.records import ChartKind
from reporting.outcomes.charts.units import Unit
from reporting.outcomes.database import changes, phases, signals
from reporting.outcomes.database.changes import Selection
from reporting.outcomes.drawing import Asked, draw, fit_risk
from reporting.outcomes.measure import measure_report, measure_resource
from reporting.outcomes.out.svg import draw_svg
from reporting.outcomes.out.tables import CHANGE_COLUMNS, as_csv, as_ndjson, change_rows
from reporting.outcomes.simulation.tables import changes_of, denominators_of
from reporting.outcomes.simulation.world import SURGEONS, World, simulate
from reporting.outcomes.simulation.writing import CODE, pair_all, write_world
from service.database.pool import connect
from service.errors import OutcomeError, RecordNotFoundError
from service.stack.servers import EmbeddedPostgres
from tests.conftest import cloned_database, settings_of

PHOTOGRAPHS = 1600
WINDOW = "6 months"


@pytest.fixture(scope="module")
def world() -> World:
    return simulate(photographs=PHOTOGRAPHS)


@pytest.fixture(scope="module")
def settings(postgres: EmbeddedPostgres, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    with cloned_database(postgres) as url:
        made = settings_of(url, tmp_path_factory.mktemp("outcomes"))
        with connect(made) as connection:
            assert write_world(connection, world) == PHOTOGRAPHS
            pair_all(connection, made)
        yield made


@pytest.fixture
def connection(settings) -> Iterator:
    with connect(settings) as opened:
        yield opened
        opened.rollback()


@pytest.fixture
def selection(connection) -> Selection:
    newest = phases.newest(connection)
    return Selection(code=CODE, window=WINDOW, region="face", phase=newest.phase)


def test_the_database_pairs_what_was_simulated(connection, selection, world: World) -> None:
    table, expected = changes.table(connection, selection), changes_of(world)
    assert len(table) == len(expected)
    assert sorted(table.change) == pytest.approx(sorted(expected.change))
    assert int(table.poor.sum()) == int(expected.poor.sum())
    counted, planted = changes.denominators(connection, selection), denominators_of(world)
    assert counted.paired == planted.paired
    assert counted.no_consent == planted.no_consent
    assert counted.eligible == planted.eligible


def test_every_chart_has_evidence_denominators_and_versions(connection, selection) -> None:
    fit_risk(connection, selection, author="tester", reason="test")
    for kind, more in (
        (ChartKind.XMR, {}),
        (ChartKind.RUN, {}),
        (ChartKind.P, {}),
        (ChartKind.TIME, {}),
        (ChartKind.FUNNEL, {}),
        (ChartKind.FUNNEL, {"by": Unit.SURGEON, "dispersed": True, "ratio": True}),
        (ChartKind.CUSUM, {"by": Unit.SURGEON, "name": SURGEONS[13]}),
    ):
        chart = draw(connection, Asked(kind=kind, selection=selection, **more))
        assert len(chart.made_from["evidence"]) == 64
        assert all(
            point.evidence
            for track in chart.tracks
            for point in track.points
            if point.cases and kind is not ChartKind.P
        )
        if kind in (ChartKind.FUNNEL, ChartKind.CUSUM):
            assert chart.made_from["risk model"] == "1"
            assert float(chart.made_from["AUC"]) > 0.5
        counted = dict(chart.denominators.lines)
        if kind in (ChartKind.P, ChartKind.TIME):
            rejected = sum(number for name, number in counted.items() if name.startswith("rejected: "))
            assert counted["photographs"] == counted["judged"] + rejected + counted["no result yet"]
            assert rejected > 0
            assert 0 < counted["of these, no consent"] < counted["photographs"]
        else:
            assert counted["paired"] > 0
        svg = draw_svg(chart)
        assert svg.count("<title>") > 1
        foot = " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", svg))
        assert all(f"{name} {number}" in foot for name, number in counted.items())
        assert f">{chart.subject}<" in svg
        numbers = re.findall(r'text-anchor="end" fill="#333333">([-\d.e+]+)<', svg)
        assert 4 * len(chart.tracks) <= len(numbers) <= 12 * len(chart.tracks)
        assert all(len(number.strip("-").replace(".", "").strip("0")) <= 2 for number in numbers), numbers
        assert draw(connection, Asked(kind=kind, selection=selection, **more)) == chart


def test_a_funnel_without_a_risk_model_says_so(connection, selection) -> None:
    with pytest.raises(Exception, match="risk fit"):
        draw(connection, Asked(kind=ChartKind.FUNNEL, selection=selection))


def test_signals_are_kept_once_and_acknowledged_with_a_reason(connection) -> None:
    name = uuid4()
    for new in (True, False):
        assert new is signals.add(
            connection,
            signal_id=name,
            chart="RA-CUSUM and VLAD of x",
            subject="s",
            rule="limit-reached",
            label="worse 2021-01-01",
            evidence=["1"],
            made_from={"phase": "p"},
        )
    (found,) = signals.newest(connection)
    assert (found.rule, found.evidence, found.acknowledged_by) == ("limit-reached", ("1",), "")
    day = date(2021, 2, 1)
    signals.acknowledge(connection, name, reason="retrained", author="tester", resets_on=day)
    (seen,) = signals.newest(connection)
    assert (seen.acknowledged_by, seen.reason) == ("tester", "retrained")
    assert signals.resets(connection, "RA-CUSUM and VLAD of x", "s") == [day]
    with pytest.raises(RecordNotFoundError):
        signals.acknowledge(connection, uuid4(), reason="x", author="tester", resets_on=None)


def test_a_phase_of_a_person_splits_the_chart(connection, selection) -> None:
    assert phases.begin(
        connection, phase="", method="", begins_on=date(2022, 1, 1), reason="new clinic", author="tester"
    )
    chart = draw(connection, Asked(kind=ChartKind.XMR, selection=selection))
    assert [phase.reason for phase in chart.phases][-1] == "new clinic"
    assert len(chart.phases) == 2


def test_exports_hold_every_change(connection, selection) -> None:
    table = changes.table(connection, selection)
    rows = list(csv.DictReader(StringIO(as_csv(change_rows(table), CHANGE_COLUMNS))))
    assert len(rows) == len(table)
    assert {row["change_id"] for row in rows} == set(table.change_id)
    lines = [json.loads(line) for line in as_ndjson(change_rows(table)).splitlines()]
    assert lines[0]["change"] == pytest.approx(float(table.change[0]), abs=1e-6)
    assert set(table.without_surgeons().surgeon) == {""}


def test_a_cell_that_a_spreadsheet_would_run_is_made_harmless() -> None:
    assert as_csv([{"a": "=cmd()"}], ["a"]).splitlines()[1] == "'=cmd()"


def test_the_report_is_a_pdf_with_every_chart(connection, selection, tmp_path: Path) -> None:
    from reporting.outcomes.out.report import make_pdf

    chart = draw(connection, Asked(kind=ChartKind.XMR, selection=selection))
    made = make_pdf([chart], title='Outcomes "of" #lips $x$', organisation="Clinic *x*", notes=["none"])
    assert made.startswith(b"%PDF-")
    assert b"/StructTreeRoot" in made or b"StructTreeRoot" in made
    with pytest.raises(OutcomeError, match="no chart"):
        make_pdf([], title="x", organisation="y", notes=["too few"])


def test_the_measure_report_is_valid_and_stratified(connection, selection) -> None:
    table, counted = changes.table(connection, selection), changes.denominators(connection, selection)
    report = measure_report(selection, table, counted, organisation="Clinic")
    MeasureReport.model_validate_json(dumps(report))
    Measure.model_validate_json(dumps(measure_resource()))
    group = report["group"][0]
    counts = {each["code"]["coding"][0]["code"]: each["count"] for each in group["population"]}
    assert counts["denominator"] == len(table) == counted.paired
    assert counts["numerator"] == int((~table.poor).sum())
    by_site = next(each for each in group["stratifier"] if each["code"][0]["text"] == "site")
    strata = [each["count"] for stratum in by_site["stratum"] for each in stratum["population"][:1]]
    assert sum(strata) == len(table)
    assert measure_report(selection, table, counted, organisation="Clinic")["id"] == report["id"]


def test_no_simulation_among_real_patients(connection, world: World) -> None:
    connection.execute(
        "UPDATE instance SET issuer_of_patient_id = 'HOSPITAL'"
        " WHERE instance_id = (SELECT min(instance_id) FROM instance)"
    )
    with pytest.raises(OutcomeError, match="not simulated"):
        write_world(connection, world)
