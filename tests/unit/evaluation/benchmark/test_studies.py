import json
import re

import numpy as np
import pytest

from service.appraisal.anomalies import inter_ocular_distance
from service.appraisal.methods.localised.fusion import FEATURES, Fusion
from service.appraisal.methods.localised.localisation import face_reading
from service.appraisal.methods.localised.shape import MEASURES, Part, Shape
from service.appraisal.methods.localised.views import LANDMARKS
from service.appraisal.model_files.models import ModelStore
from service.errors import ConfigurationError
from service.evaluation.benchmark.ablations import FUSED, AblationStudy
from service.evaluation.benchmark.judges import OracleJudge
from service.evaluation.benchmark.landmarks import LandmarkStudy
from service.evaluation.benchmark.report import write_report
from service.evaluation.benchmark.robustness import CHANGES, measure_robustness
from service.evaluation.benchmark.run import Plan, check, run
from service.evaluation.benchmark.studies import StudyTable, as_json, as_markdown, cell_text, figure_of
from service.evaluation.benchmark.summary import Figure
from service.evaluation.benchmark.trial import Judged
from tests.unit.appraisal.methods.localised.drawn_measures import CALM, drawn_measures
from tests.unit.evaluation.benchmark.shown import sheet, subject
from tests.unit.evaluation.benchmark.trials import MAKERS, subjects

NAN = float("nan")


def rows_of(table):
    return {name: dict(zip(table.columns, cells, strict=True)) for name, cells in table.rows}


@pytest.fixture
def table():
    cells = (3, Figure(value=0.5, low=0.25, high=1.0), None, Figure(value=NAN, low=NAN, high=NAN))
    columns = ("faces", "auroc", "mean_change", "sd")
    return StudyTable(name="t", title="T", note="N.", columns=columns, rows=(("a|b", cells),))


def test_a_table_is_written_for_people_and_for_machines(table, tmp_path):
    assert as_markdown(table).splitlines()[-1] == "| a\\|b | 3 | 0.50 (0.25 to 1.00) | – | – |"
    assert "| faces | AUROC | mean change | SD |" in as_markdown(table)
    figures = as_json(table)
    assert figures["a|b"]["auroc"] == {"value": 0.5, "low": 0.25, "high": 1.0}
    assert figures["a|b"]["mean_change"] is None
    json.dumps(figures, allow_nan=False)
    write_report(tmp_path / "r.html", [], {}, {"default": [table]})
    text = (tmp_path / "r.html").read_text()
    assert re.search(r"<td>0\.50<br><small>0\.25 to 1\.00</small></td>", text)
    assert cell_text(Figure(value=1.0, low=NAN, high=NAN)) == "1.00"


def test_an_interval_narrows_with_the_number_of_rows():
    values = np.random.default_rng(0).normal(size=1000)
    wide, narrow = (figure_of(n, lambda rows: float(values[rows].mean()), repeats=100) for n in (10, 1000))
    assert narrow.high - narrow.low < 0.3 * (wide.high - wide.low)


class Brightness:
    """Scores by mean brightness, and refuses small pictures."""

    def judge(self, image, sham):
        if image.shape[0] < 100:
            return Judged(anomaly=None, difference=None)
        return Judged(anomaly=-float(image.mean()), difference=None)


def test_robustness_tells_what_moves_a_score_and_what_is_refused():
    people = list(subjects(6))
    for number, person in enumerate(people):
        person.image[:] = np.clip(person.image.astype(int) + 6 * number, 0, 255)
    asked = []
    table = measure_robustness(people, Brightness(), repeats=10, tell=lambda *at: asked.append(at))
    rows = rows_of(table)
    assert set(rows) == {"none", *CHANGES}
    assert rows["mirrored"]["icc"].value == pytest.approx(1.0)
    assert rows["mirrored"]["median_change"].value == pytest.approx(0.0, abs=1e-9)
    assert rows["gamma 0.77"]["mean_change"].value > 5
    assert rows["gamma 0.77"]["icc"].value < 0.8
    assert rows["half the size"]["rejected"] == 6
    assert rows["half the size"]["icc"] is None
    assert rows["none"]["false_positives"] is None  # no calibration says what is usual
    assert asked[-1] == (6 * (1 + len(CHANGES)),) * 2


def test_landmarks_that_follow_recover_all_and_those_that_stay_nothing():
    study = LandmarkStudy()
    assert study.empty
    for name in ("a", "b"):
        who = subject(name)
        study.see(sheet(who, moved_px=2.0))
        study.see(sheet(who, "droop", 1.0, follows=0.8, mesh_follows=0.1, moved_px=2.0))
        study.see(sheet(who, "droop", 0.25, follows=0.0))  # subtle ones do not count
        study.see(sheet(who, "nevus", 1.0))  # moves nothing
    recovered, distance = study.tables(repeats=10)
    rows = rows_of(recovered)
    assert list(rows) == ["droop"]
    assert rows["droop"]["images"] == 2
    assert rows["droop"]["network"].value == pytest.approx(0.8, abs=0.01)
    assert rows["droop"]["mesh"].value == pytest.approx(0.1, abs=0.01)
    apart = rows_of(distance)["normal faces"]["mean"].value
    assert apart == pytest.approx(200 / inter_ocular_distance(subject().landmarks), rel=0.02)


def fusion():
    clean = sheet(subject())
    maps = clean.judged.appraised.maps
    seen = face_reading(maps.face, maps.counterpart.reading, CALM)
    residual = np.stack([measure.functional().ravel() for measure in MEASURES])
    return Fusion(
        mean=np.full((3, 64, 64), -3.0, np.float32),
        deviation=np.ones((3, 64, 64), np.float32),
        shape=Shape(
            residual=residual,
            mean=residual @ ((seen.found()[list(LANDMARKS)] + 0.5) / seen.size).ravel(),
            deviation=np.full(len(MEASURES), 0.01),
        ),
        weights=np.eye(len(FEATURES))[FEATURES.index("evidence")],
        close_weights=np.zeros(2),
        close_bias=-20.0,
        bias=0.0,
        measure_weights=np.full(len(MEASURES), 1.0),
        part_biases=np.full(len(Part), -9.0),
        explicit=drawn_measures(maps.face.landmarks),
    )


def test_the_evidence_that_carries_the_fusion_is_missed_and_the_rest_is_not():
    study = AblationStudy(fusion())
    for number in range(4):
        who = subject(str(number))
        study.see(sheet(who, evidence=0.1 * number))
        study.see(sheet(who, "nevus", 0.75, evidence=2.0 + 0.1 * number))
        study.see(sheet(who, "nevus", 0.25, evidence=0.05 + 0.1 * number))
    alone, by_type = study.tables(repeats=20)
    rows = rows_of(alone)
    assert rows[FUSED]["alone_strong"].value == 1.0
    assert rows["evidence"]["alone_strong"].value == 1.0
    assert 0.5 < rows["evidence"]["alone_subtle"].value < 1.0
    assert rows["evidence"]["lost_strong"].value == pytest.approx(0.5)
    assert rows["evidence"]["without_strong"].value == pytest.approx(0.5)
    assert rows["shape of the eyes"]["lost_strong"].value == 0.0
    assert rows_of(by_type)["evidence"]["nevus"].value == 1.0
    assert rows_of(by_type)[FUSED]["nevus"].value == 1.0


def plan(**changes):
    return Plan(**({"makers": MAKERS, "faces": list(subjects(2)), "repeats": 0} | changes))


@pytest.mark.parametrize(
    ("changes", "methods", "word"),
    [
        ({"faces": ()}, ["default"], "name a folder"),
        ({"faces": (), "trial": False}, ["default"], "name a folder"),
        ({"trial": False, "landmarks": True}, ["default"], "keep the trial"),
        ({"landmarks": True}, ["symmetry"], "landmarks of its own"),
        ({"ablations": True}, ["symmetry", "oracle"], "fuses evidence"),
    ],
)
def test_what_cannot_be_measured_is_refused_first(changes, methods, word):
    with pytest.raises(ConfigurationError, match=word):
        check(plan(**changes), methods)


def test_of_the_oracle_there_is_the_trial_and_no_study():
    result = run("oracle", plan(robustness=True), ModelStore())
    assert [table.name for table in result.tables] == ["types", "rejections"]
    assert result.figures["subjects"] == 2
    assert OracleJudge().judge(result.sheets[0].rendered.image, result.sheets[0].rendered.image).anomaly == 0
    assert len(LANDMARKS) == 93
