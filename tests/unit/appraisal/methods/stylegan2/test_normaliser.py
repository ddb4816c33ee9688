from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from service.appraisal.face.alignment import CANONICAL_POINTS, transform
from service.appraisal.methods.features.backbones import BACKBONES, build_network
from service.appraisal.methods.stylegan2.normaliser import FFHQ_FRAMING, MODEL, Framing, StyleGan2Normaliser
from service.appraisal.methods.stylegan2.projection import (
    AdaptationSettings,
    PerceptualLoss,
    ProjectionSettings,
)
from service.appraisal.model_files.models import ModelStore
from service.appraisal.registry import NORMALISERS
from service.appraisal.tables import Workplace
from service.errors import ConfigurationError, ModelIntegrityError, ModelNotFoundError
from tests.unit.appraisal.methods.stylegan2.generators import small_generator

pytestmark = pytest.mark.usefixtures("one_thread")


def _generator():
    return small_generator(plain=True, size=32)


def _normaliser(adapted, framing=None):
    torch.manual_seed(1)
    return StyleGan2Normaliser(
        generator=_generator(),
        loss=PerceptualLoss(build_network(BACKBONES["squeezenet"], None, 2), None),
        projection=ProjectionSettings(steps=20, mean_draws=100, window=20),
        adaptation=AdaptationSettings(steps=150, window=60, learning_rate=0.01) if adapted else None,
        framing=framing or Framing(),
    )


def _distance(face, result):
    return float(np.abs(face.rgb[result.valid].astype(float) - result.rgb[result.valid]).mean())


def test_adaptation_brings_the_counterpart_closer_to_the_face(aligned):
    (projected,) = _normaliser(adapted=False).normalise([aligned])
    adapted, again = _normaliser(adapted=True).normalise([aligned, aligned])
    assert adapted.rgb.shape == aligned.rgb.shape
    assert adapted.valid.mean() > 0.98
    assert _distance(aligned, adapted) < 0.8 * _distance(aligned, projected)
    assert np.abs(adapted.rgb.astype(int) - again.rgb).mean() < 60


def test_a_picture_goes_to_the_generators_square_and_back(aligned):
    from service.appraisal.methods.stylegan2 import normaliser as stylegan2

    for framing in (Framing(), FFHQ_FRAMING):
        matrix = framing.matrix(aligned.size, 512)
        back = stylegan2._back(stylegan2._crop(aligned, matrix, 512), matrix, aligned.size)
        inside = back.valid & aligned.inside
        assert np.abs(back.rgb[inside].astype(int) - aligned.rgb[inside]).mean() < 2.5


def test_ffhqs_crop_has_the_eyes_and_the_mouth_where_ffhq_has_them():
    points = np.array(CANONICAL_POINTS) * 256 - 0.5
    eyes_and_mouth = (transform(points, FFHQ_FRAMING.matrix(256, 1024)) + 0.5) / 1024
    assert eyes_and_mouth[0, 0] == pytest.approx(0.375, abs=0.02)
    assert eyes_and_mouth[1, 0] == pytest.approx(0.625, abs=0.02)
    assert eyes_and_mouth[:2, 1] == pytest.approx(0.475, abs=0.02)
    assert eyes_and_mouth[2] == pytest.approx((0.5, 0.728), abs=0.02)


def _manifest(directory, rows, line="site"):
    text = "".join(
        f'[[model]]\nid="{name}"\nfile="{file}"\n'
        f'sha256="{hashlib.sha256((directory / file).read_bytes()).hexdigest()}"\n'
        f'licence="none"\nintended_use="tests"\nline="{line}"\n'
        for name, file in rows
    )
    (directory / "models_manifest.toml").write_text(text)


def test_a_hospitals_own_generator_is_found_by_its_own_manifest(tmp_path):
    save_file(_generator().state_dict(), tmp_path / "faces.safetensors")
    _manifest(tmp_path, [(MODEL, "faces.safetensors")])
    store = ModelStore(tmp_path)
    assert len(store.sha256([MODEL])) == 64
    with pytest.raises(ModelNotFoundError, match="squeezenet"):
        NORMALISERS["stylegan2"].build(Workplace(store=store))


def test_a_directory_may_not_replace_the_products_models(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "mine.safetensors")
    _manifest(tmp_path, [("lpips-0.1-squeeze", "mine.safetensors")], line="external")
    with pytest.raises(ConfigurationError, match="lpips"):
        ModelStore(tmp_path)


def _store(directory, generator, name="stylegan2"):
    """A directory with that generator and a random SqueezeNet."""
    import torchvision

    save_file(generator.state_dict(), directory / "faces.safetensors")
    tensors = torchvision.models.squeezenet1_1(weights=None).state_dict()
    save_file(tensors, directory / "squeeze.safetensors")
    _manifest(directory, [(MODEL, "faces.safetensors")])
    plain = ModelStore(directory)
    rows = {row: plain.entry(row) for row in NORMALISERS[name].models}
    digest = hashlib.sha256((directory / "squeeze.safetensors").read_bytes()).hexdigest()
    row = "squeezenet1_1-imagenet"
    rows[row] = replace(rows[row], file="squeeze.safetensors", sha256=digest)
    return ModelStore(directory, manifest=rows)


def test_a_generator_too_small_for_the_loss_is_refused(tmp_path):
    with pytest.raises(ModelIntegrityError, match="16 px"):
        NORMALISERS["stylegan2"].build(Workplace(store=_store(tmp_path, small_generator(size=16))))


@pytest.mark.parametrize("name", [name for name in NORMALISERS if name.startswith("stylegan2")])
def test_the_rows_build_when_the_files_are_there_and_work(tmp_path, name, aligned):
    built = NORMALISERS[name].build(Workplace(store=_store(tmp_path, _generator(), name)))
    assert isinstance(built, StyleGan2Normaliser)
    assert built.projection.w_plus == ("wplus" in name)
    assert (built.adaptation is None) == name.endswith("-projected")
    assert built.framing == (FFHQ_FRAMING if "ffhq" in name else Framing())
    short = replace(
        built,
        projection=replace(built.projection, steps=2, mean_draws=10),
        adaptation=built.adaptation and replace(built.adaptation, steps=2),
    )
    (made,) = short.normalise([aligned])
    assert made.rgb.shape == aligned.rgb.shape


def test_every_ablation_has_a_row_for_both_kinds_of_generator():
    endings = ("", "-projected", "-wplus", "-wplus-projected")
    assert {name for name in NORMALISERS if name.startswith("stylegan2")} == {
        stem + ending for stem in ("stylegan2", "stylegan2-ffhq") for ending in endings
    }


def test_progress_counts_the_steps_of_both_algorithms_and_reaches_the_end(aligned):
    told = []
    normaliser = replace(
        _normaliser(adapted=True),
        adaptation=AdaptationSettings(steps=3),
        progress=lambda done, total: told.append((done, total)),
    )
    normaliser.normalise([aligned, aligned])
    assert {total for _, total in told} == {20 + 2 * 3}
    assert [done for done, _ in told] == [*range(1, 27), 26]
