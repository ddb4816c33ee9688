import tomllib
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from service.appraisal.calibration import named_by_content
from service.appraisal.methods.localised.anomaly_network import AnomalyNetwork, of_close_up, together
from service.appraisal.methods.localised.fusion import FaceReading, fusion_from
from service.appraisal.methods.localised.reading import Reading
from service.appraisal.methods.localised.shape import MEASURES, PART_MEASURES, Part, Shape
from service.appraisal.methods.localised.views import CLOSE_UP, LANDMARKS
from service.appraisal.model_files.models import ModelStore
from service.appraisal.registry import METHODS
from service.appraisal.site import at_site, calibration_of
from service.errors import ConfigurationError
from service.training.localised.calibrate import Sample, fit
from service.training.localised.cohort import cohort
from service.training.localised.kinds import leave_one_kind_out, write_kinds
from service.training.localised.provenance import OWN, licence_of
from service.training.localised.release import release
from tests.unit.appraisal.drawn_face import drawn_mesh
from tests.unit.appraisal.methods.localised.drawn_measures import drawn_measures
from tests.unit.training.archives import write_archive

SIZE = 256
CHIN = [LANDMARKS.index(point) for point in (148, 152, 377)]


def flat_shape():
    """Every measure as it is, predicted from nothing."""
    return Shape(
        residual=np.stack([measure.functional().ravel() for measure in MEASURES]),
        mean=np.zeros(len(MEASURES)),
        deviation=np.full(len(MEASURES), 0.005),
    )


def measures():
    return drawn_measures(drawn_mesh(SIZE))


def samples(count=40):
    """Readings of a network that sees: evidence and local logits rise with severity."""
    rng = np.random.default_rng(0)
    mesh = drawn_mesh(SIZE).astype(np.float64)
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    face = ((columns - 128) / 92) ** 2 + ((rows - 138) / 112) ** 2 < 1
    for number in range(count):
        severity = 0.0 if number % 2 else float(rng.uniform(0.3, 1))
        local = rng.normal(-3, 0.5, (64, 64)).astype(np.float32)
        local[30:36, 30:36] += 5 * severity
        moved = mesh + rng.normal(0, 0.5, mesh.shape)
        true = np.zeros((len(LANDMARKS), 2), np.float32)
        true[CHIN, 1] = -0.1 * severity
        reading = Reading(
            localisation=local,
            flow=np.zeros((64, 64, 2), np.float32),
            residual=np.zeros((64, 64, 3), np.float32),
            evidence=float(3 * severity + rng.normal(0, 0.3)),
            severity=severity,
            close_evidence=0.0,
            close_severity=0.0,
            landmarks=((moved[list(LANDMARKS)] + 0.5) / SIZE + true).astype(np.float32),
        )
        seen = FaceReading(
            reading=reading, landmarks=moved, face=face, redness=float(np.exp(rng.normal(-1, 0.1)))
        )
        yield Sample(seen=seen, severity=severity, kind="x" if severity else "sham", moved=true)


def test_the_fit_tells_anomalous_from_normal_and_knows_the_usual():
    made = list(samples())
    fusion = fit(made, flat_shape(), measures())
    totals = np.array([fusion.total(s.seen) for s in made])
    present = np.array([s.severity > 0 for s in made])
    assert np.mean(totals[present][:, None] > totals[~present]) > 0.95
    z = np.stack([fusion.shape.z(s.seen.found(), SIZE) for s in made if s.severity == 0])
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(z.std(axis=0), 1, atol=0.01)
    assert fusion.mean[0, 5, 5] == pytest.approx(-3, abs=0.3)
    assert (fusion.weights >= 0).all()
    jaw = list(Part).index(Part.JAW)
    chin = [measure.name for measure in MEASURES].index("chin-height")
    assert fusion.measure_weights[chin] > 0.3
    assert fusion.measure_weights[chin] * 8 + fusion.part_biases[jaw] > 1
    assert (fusion.part_biases < 0).all()
    assert not fusion.measure_weights[list(PART_MEASURES[Part.EYES])].any()  # no eye was displaced
    again = fit(list(samples()), flat_shape(), measures(), replace(fusion, part_biases=np.arange(5.0)))
    np.testing.assert_array_equal(again.part_biases, np.arange(5.0))


def test_the_cohort_rates_normal_high_and_severe_low():
    made = list(samples(80))
    fusion = fit(made, flat_shape(), measures())
    calibration = cohort(made, fusion, version="t-1", basis="drawn")
    assert calibration.rating(calibration.normal_quantiles[50]) == 7.0
    worst = max(made, key=lambda s: s.severity).seen
    assert calibration.rating(-fusion.total(worst)) < 3
    assert calibration.map_range[1] > calibration.map_range[0]
    assert "oronasal" in calibration.regions


def test_each_kind_is_held_out_in_turn(tmp_path):
    """Two kinds the picture's evidence tells, and one that only the close-up sees."""
    made = []
    for number, sample in enumerate(samples(120)):
        kind = "sham" if sample.severity == 0 else ("chin", "cheek", "near")[number // 2 % 3]
        reading = sample.seen.reading
        if kind == "near":
            calm = replace(
                reading, evidence=0.0, severity=0.0, localisation=np.full((64, 64), -3.0, np.float32)
            )
            reading = replace(calm, close_evidence=6.0, landmarks=made[1].seen.reading.landmarks)
        seen = replace(sample.seen, reading=reading)
        moved = sample.moved.copy()
        if kind == "near":
            moved[:] = 0.0
            moved[CLOSE_UP.chosen[0], 1] = 0.05
        made.append(replace(sample, seen=seen, kind=kind, moved=moved, face=number // 2))
    found = {one.kind: one for one in leave_one_kind_out(made, flat_shape(), measures())}
    assert set(found) == {"chin", "cheek", "near"}
    assert found["chin"].images == 20
    assert found["chin"].seen > 0.95
    assert found["chin"].unseen > 0.95, "cheeks show in the same evidence"
    assert found["near"].seen > 0.85
    assert found["near"].unseen < found["near"].seen - 0.2, "nobody taught what the close-up means"
    rows = write_kinds(tuple(found.values()), tmp_path / "kinds.csv").read_text().splitlines()
    assert rows[0] == "kind,images,seen,unseen"
    assert len(rows) == 4
    with pytest.raises(ConfigurationError, match="two kinds"):
        leave_one_kind_out([one for one in made if one.kind in {"sham", "chin"}], flat_shape(), measures())


def test_too_few_faces_are_no_cohort():
    made = list(samples(12))
    with pytest.raises(ConfigurationError, match="too few"):
        cohort(made, fit(made, flat_shape(), measures()), version="t-1", basis="drawn")


class NoFaces:
    """A finder that finds nothing."""

    def find(self, rgb):
        return ()


def test_release_refuses_an_unknown_line_and_a_folder_without_faces(tmp_path):
    weights = tmp_path / "network.safetensors"
    save_file({k: v.contiguous() for k, v in AnomalyNetwork().state_dict().items()}, weights)
    with pytest.raises(ConfigurationError, match="no line"):
        release(weights, tmp_path, tmp_path / "out", NoFaces(), faces=4, line="best", seed=0)
    with pytest.raises(ConfigurationError, match="no faces_"):
        release(weights, tmp_path, tmp_path / "out", NoFaces(), faces=4, line="site", seed=0)


class Mesh:
    """A finder that knows where the drawn face is."""

    def find(self, rgb):
        from service.appraisal.face.finder import Face
        from service.appraisal.face.pose import Pose

        points = drawn_mesh(rgb.shape[0])
        points[468], points[473] = points[[33, 133]].mean(0), points[[263, 362]].mean(0)
        mesh = np.hstack([points.astype(np.float64), np.zeros((478, 1))])
        return (Face(mesh=mesh, pose=Pose(yaw_deg=0, pitch_deg=0, roll_deg=0)),)


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "network.safetensors"
    both = together(AnomalyNetwork().state_dict(), AnomalyNetwork(CLOSE_UP).state_dict())
    save_file({k: v.contiguous() for k, v in both.items()}, path)
    return path


def test_a_release_for_a_site_is_a_model_directory(tmp_path, weights):
    write_archive(tmp_path, 256, ["site"] * 40)
    out = tmp_path / "out"
    out.mkdir()
    other = {"id": "mine", "file": "mine.pt", "sha256": "a" * 64, "licence": "x", "intended_use": "y"}
    rows = "".join(f'{k} = "{v}"\n' for k, v in {**other, "line": "external"}.items())
    (out / "models_manifest.toml").write_text("[[model]]\n" + rows)
    licence = ModelStore().entry("default-face").licence
    made = release(weights, tmp_path, out, Mesh(), faces=12, line="site", seed=0, started_from=licence)
    rows = tomllib.loads((out / "models_manifest.toml").read_text())["model"]
    assert all(licence in row["licence"] for row in rows[1:]), "adapted, and still under their terms"
    assert licence in (out / "model-card.md").read_text()
    assert {row["line"] for row in rows[1:]} == {"site"}
    assert {row["file"] for row in rows[1:]} <= {path.name for path in made}
    fusion_from(load_file(out / "default-fusion.safetensors"))
    store = ModelStore(out)
    row = at_site(METHODS["default"], store)
    rates = calibration_of(row, store)
    assert rates is not None
    assert row.calibration == rates.version == named_by_content(rates, "default-site").version
    assert rates.weights_sha256 == store.sha256(["default-face", "default-counterpart", "default-fusion"])
    assert row.calibration in (out / "model-card.md").read_text()
    chosen = f"calibration-{row.calibration}"  # by its name, when one of ratings took its place
    assert [each["id"] for each in rows] == [
        "mine",
        "default-face",
        "default-fusion",
        "default-calibration",
        chosen,
    ]


def test_a_network_of_nothing_shipped_is_the_sites_own():
    both = together(AnomalyNetwork().state_dict(), AnomalyNetwork(CLOSE_UP).state_dict())
    assert licence_of(both) == OWN
    shipped = ModelStore().tensors("default-face")
    near = of_close_up(shipped)
    assert licence_of(together(AnomalyNetwork().state_dict(), near)) != OWN, "the close-up is the shipped one"
    assert licence_of(both, shipped_fusion=True) != OWN
    assert "Non-commercial" in licence_of(shipped), "byte for byte the research network"
    again = licence_of(both, started_from=licence_of(shipped))
    assert again == licence_of(shipped)


def test_a_release_for_research_is_rows_for_the_products_manifest(tmp_path, weights):
    write_archive(tmp_path, 256, ["one"] * 120)
    made = release(
        weights,
        tmp_path,
        tmp_path / "out",
        Mesh(),
        faces=8,
        line="research",
        seed=0,
        leave_one_kind_out=True,
    )
    assert made[-1].name == "held-out-kinds.csv"
    rows = tomllib.loads((tmp_path / "out" / "manifest-rows.toml").read_text())["model"]
    assert [row["line"] for row in rows] == ["research", "research"]
    assert {row["file"] for row in rows} <= {path.name for path in made}
    assert (tmp_path / "out" / "default-3.json").exists()


def test_a_close_up_of_its_own_takes_the_place_of_the_one_in_the_weights(tmp_path, weights):
    write_archive(tmp_path, 256, ["one"] * 120)
    own = AnomalyNetwork(CLOSE_UP).state_dict()
    path = tmp_path / "close.safetensors"
    save_file({k: v.contiguous() for k, v in own.items()}, path)
    out = tmp_path / "out"
    release(weights, tmp_path, out, Mesh(), close_up=path, faces=12, line="research", seed=0)
    kept = of_close_up(load_file(out / "default-face.safetensors"))
    torch.testing.assert_close(kept["heads.weight"].float(), own["heads.weight"], atol=1e-3, rtol=1e-2)


def test_too_few_normal_faces_and_faces_not_found_again_are_refused(tmp_path, weights):
    write_archive(tmp_path, 256, ["one"] * 12)
    with pytest.raises(ConfigurationError, match="at least 10 are needed"):
        release(weights, tmp_path, tmp_path / "out", NoFaces(), faces=10, line="site", seed=0)
    with pytest.raises(ConfigurationError, match="too few to calibrate"):
        release(weights, tmp_path, tmp_path / "out", NoFaces(), faces=10, line="site", seed=0, everyone=True)
