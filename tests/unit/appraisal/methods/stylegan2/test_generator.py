from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from service.appraisal.conversion import convert_model
from service.appraisal.methods.stylegan2.generator import (
    CONFIG_E,
    CONFIG_F,
    Generator,
    GeneratorShape,
    generator_from,
    load_generator,
    shape_of,
)
from service.appraisal.methods.stylegan2.layers import (
    EqualLinear,
    ModulatedConv2d,
    ToRGB,
    resampling_kernel,
    upfirdn,
)
from service.errors import ModelIntegrityError
from tests.unit.appraisal.methods.stylegan2 import reference
from tests.unit.appraisal.methods.stylegan2.generators import as_tensorflow, as_torch, small_generator

SHAPE = GeneratorShape(size=16, style_dim=8, mapping_layers=3, most_channels=6)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def generator():
    return small_generator(mapping_layers=3, most_channels=6)


def _arrays(module):
    return {name: value.double().numpy() for name, value in module.state_dict().items()}


def _close(ours, theirs):
    assert ours.detach().numpy() == pytest.approx(theirs, rel=1e-3, abs=1e-4)


def test_upfirdn():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 3, 5, 7))
    for up, pad in ((1, (1, 1)), (2, (2, 1)), (1, (2, 2))):
        ours = upfirdn(torch.from_numpy(values), resampling_kernel(4.0), up, pad)
        for b in range(2):
            for c in range(3):
                _close(ours[b, c], reference.upfirdn(values[b, c], reference.FILTER * 4, up, pad))


@pytest.mark.parametrize("active", [False, True])
def test_linear_layers_with_equalised_learning_rate(active):
    torch.manual_seed(0)
    layer = EqualLinear(5, 4, bias=0.7, lr_mul=0.01, active=active)
    x = torch.randn(3, 5)
    p = _arrays(layer)
    _close(layer(x), reference.linear(x.double().numpy(), p["weight"], p["bias"], 0.01, active))


@pytest.mark.parametrize(
    ("demodulate", "upsample", "size"), [(True, False, 3), (True, True, 3), (False, False, 1)]
)
def test_modulated_convolution(demodulate, upsample, size):
    torch.manual_seed(1)
    layer = ModulatedConv2d(4, 5, size, 8, demodulate=demodulate, upsample=upsample)
    x, style = torch.randn(2, 4, 6, 6), torch.randn(2, 8)
    p, ours = _arrays(layer), layer(x, style)
    for b in range(2):
        expected = reference.modulated(
            x[b].double().numpy(), style[b].double().numpy(), p["weight"][0], p["modulation.weight"],
            p["modulation.bias"], demodulate=demodulate, upsample=upsample,
        )  # fmt: skip
        _close(ours[b], expected)


def test_demodulation_keeps_the_variance():
    torch.manual_seed(2)
    layer = ModulatedConv2d(32, 32, 3, 8)
    out = layer(torch.randn(4, 32, 24, 24), 5 * torch.randn(4, 8)).detach()
    assert float(out[:, :, 2:-2, 2:-2].var()) == pytest.approx(1, rel=0.1)


def test_colour_is_added_to_the_enlarged_colour_before():
    torch.manual_seed(3)
    layer = ToRGB(4, 8)
    x, style, skip = torch.randn(1, 4, 8, 8), torch.randn(1, 8), torch.randn(1, 3, 4, 4)
    p = {f"t.{k}": v for k, v in _arrays(layer).items()}
    args = (v[0].double().numpy() for v in (x, style, skip))
    _close(layer(x, style, skip)[0], reference.to_rgb(p, "t", *args))


def _made(generator, work):
    """What each layer gives while the work runs, by its name."""
    made = {}
    hooks = [
        module.register_forward_hook(lambda _m, _i, out, name=name: made.__setitem__(name, out))
        for name, module in generator.named_modules()
    ]
    with torch.no_grad():
        work()
    for hook in hooks:
        hook.remove()
    return made


# Config-e and -f with a 64th of their feature maps: the first narrows from 64 px on, the second from 128.
NARROW = {
    "config-e": {"size": 128, "channel_base": CONFIG_E // 64, "most_channels": 8},
    "config-f": {"size": 128, "channel_base": CONFIG_F // 64, "most_channels": 8},
    "small": {"size": 16, "most_channels": 6},
}


@pytest.mark.parametrize("name", NARROW)
def test_every_layer_of_mapping_and_synthesis_against_numpy(name):
    generator = small_generator(mapping_layers=8, **NARROW[name])
    shape = generator.shape
    levels = len(generator.to_rgbs)
    widths = [shape.channels(4 * 2**level) for level in range(levels + 1)]
    assert widths == {"config-e": [8, 8, 8, 8, 4, 2], "config-f": [8] * 5 + [4], "small": [6] * 3}[name]
    p = _arrays(generator)
    count = 2 if name == "small" else 1  # numpy takes seconds a picture
    z = torch.randn(count, 8, generator=torch.Generator().manual_seed(1))
    noise = generator.draw_noise(count, torch.Generator().manual_seed(2), "cpu")
    made = _made(generator, lambda: generator.synthesise(generator.map(z), noise))
    for b in range(count):
        mapped = reference.mapping(p, z[b].double().numpy(), 8)
        planes = [n[b, 0].double().numpy() for n in noise]
        expected = mapped | reference.synthesis(p, [mapped["style.8"]] * shape.styles, planes, levels)
        assert len(expected) == 9 + 2 + 3 * levels
        for layer, values in expected.items():
            _close(made[layer][b], values)


def test_w_plus_steers_each_layer_by_its_own_style(generator):
    styles = torch.randn(1, SHAPE.styles, 8, generator=torch.Generator().manual_seed(3))
    noise = generator.draw_noise(1, torch.Generator().manual_seed(2), "cpu")
    planes = [n[0, 0].double().numpy() for n in noise]
    expected = reference.synthesis(_arrays(generator), list(styles[0].double().numpy()), planes, 2)
    _close(generator.synthesise(styles, noise)[0], expected["to_rgbs.1"])


@pytest.mark.parametrize(
    ("size", "base", "channels"),
    [(1024, CONFIG_F, 32), (1024, CONFIG_E, 16), (256, CONFIG_F, 128), (256, CONFIG_E, 64)],
)
def test_official_sizes(size, base, channels):
    shape = GeneratorShape(size=size, channel_base=base)
    assert shape.channels(size) == channels
    assert shape.styles == {1024: 18, 256: 14}[size]
    assert len(shape.noise_sides()) == shape.styles - 1


@pytest.mark.parametrize(
    "shape",
    [
        SHAPE,
        GeneratorShape(size=64, channel_base=CONFIG_E, style_dim=16),
        GeneratorShape(size=64, style_dim=16),
        GeneratorShape(size=64, channel_base=512, most_channels=32, style_dim=16),
    ],
)
def test_the_shape_is_read_off_the_tensors(shape):
    found = shape_of(Generator(shape).state_dict())
    assert [found.channels(s) for s in (4, 8, 16, 32, 64)[: len(found.noise_sides()) // 2 + 1]] == [
        shape.channels(s) for s in (4, 8, 16, 32, 64)[: len(shape.noise_sides()) // 2 + 1]
    ]
    assert found.noise_sides() == shape.noise_sides()


def test_checkpoints_of_rosinality_and_safetensors_load(generator, tmp_path):
    state = generator.state_dict()
    extra = {
        "convs.0.conv.blur.kernel": torch.ones(4, 4),
        "to_rgbs.0.upsample.kernel": torch.ones(4, 4),
        "noises.noise_0": torch.zeros(1, 1, 4, 4),
    }
    torch.save({"g": {}, "g_ema": {**state, **extra}, "args": None}, tmp_path / "rosinality.pt")
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "ours.safetensors")
    z = torch.randn(1, 8, generator=torch.Generator().manual_seed(5))
    for name in ("rosinality.pt", "ours.safetensors"):
        assert torch.equal(load_generator(tmp_path / name).map(z), generator.map(z))


FORMATS = ("safetensors", "rosinality", "TensorFlow", "PyTorch")


@pytest.mark.parametrize("base", [CONFIG_E, CONFIG_F], ids=["config-e", "config-f"])
@pytest.mark.parametrize("size", [256, 512, 1024])
def test_official_sizes_load_from_every_format_and_draw(size, base, tmp_path, monkeypatch):
    """With a sixteenth of the feature maps, to take seconds; names and layers are the official ones."""
    made = small_generator(
        size=size, style_dim=32, mapping_layers=8, channel_base=base // 16, most_channels=32
    )
    state = made.state_dict()
    assert len(state) == {256: 110, 512: 124, 1024: 138}[size]
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "safetensors.safetensors")
    torch.save({"g_ema": state}, tmp_path / "rosinality.pt")
    as_tensorflow(tmp_path / "TensorFlow.pkl", made, monkeypatch)
    as_torch(tmp_path / "PyTorch.pkl", made, monkeypatch)
    draws = torch.Generator().manual_seed(1)
    noise = made.draw_noise(1, draws, "cpu")
    with torch.inference_mode():
        expected = made.synthesise(made.map(torch.ones(1, 32)), noise)
        assert expected.shape == (1, 3, size, size)
        for name in FORMATS:
            (path,) = tmp_path.glob(f"{name}.*")
            if path.suffix == ".pkl":
                path = convert_model(path, tmp_path / "converted.safetensors").path
            loaded = load_generator(path)
            assert loaded.shape == made.shape
            assert torch.equal(loaded.synthesise(loaded.map(torch.ones(1, 32)), noise), expected)


@pytest.mark.parametrize(
    ("base", "side_1024"), [(CONFIG_E, 16), (CONFIG_F, 32)], ids=["config-e", "config-f"]
)
def test_the_official_generator_of_1024_pixels_in_full_width(base, side_1024, tmp_path):
    torch.manual_seed(0)
    made = Generator(GeneratorShape(size=1024, channel_base=base)).eval().requires_grad_(False)
    save_file({k: v.half().contiguous() for k, v in made.state_dict().items()}, tmp_path / "g.safetensors")
    loaded = load_generator(tmp_path / "g.safetensors")
    assert loaded.shape == made.shape
    assert loaded.convs[-1].conv.weight.shape == (1, side_1024, side_1024, 3, 3)
    noise = loaded.draw_noise(1, torch.Generator().manual_seed(1), "cpu")
    with torch.inference_mode():
        drawn = loaded.synthesise(loaded.map(torch.ones(1, 512)), noise)
    assert drawn.shape == (1, 3, 1024, 1024)
    assert torch.isfinite(drawn).all()


@pytest.mark.parametrize("damage", ["style.1.weight", "input.input", "convs.3.conv.weight", "to_rgb1.bias"])
def test_a_file_that_is_no_generator_is_refused(generator, damage):
    tensors = {k: v for k, v in generator.state_dict().items() if k != damage}
    with pytest.raises(ModelIntegrityError):
        generator_from(tensors)
    with pytest.raises(ModelIntegrityError):
        generator_from({**tensors, damage: torch.zeros(1)})


def test_the_mean_latent_is_that_of_many(generator):
    mean, spread = generator.mean_latent(4000)
    w = generator.map(torch.randn(4000, 8, generator=torch.Generator().manual_seed(9)))
    assert mean.numpy() == pytest.approx(w.mean(0).numpy(), abs=0.05)
    assert spread > 0
