from __future__ import annotations

import warnings

import lpips
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from service.appraisal.methods.features.backbones import BACKBONES, build_network
from service.appraisal.methods.features.deep import DeepComparator, DeepSettings
from service.appraisal.model_files.models import ModelEntry, ModelStore, read_manifest
from service.appraisal.registry import COMPARATORS
from service.appraisal.tables import Workplace
from service.errors import ModelIntegrityError

LPIPS_NAMES = {"alexnet": "alex", "squeezenet": "squeeze", "vgg16": "vgg"}


pytestmark = pytest.mark.usefixtures("one_thread")


def _pictures(size=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((2, 3, size, size), generator=generator), torch.rand(
        (2, 3, size, size), generator=generator
    )


def _network(name, layers=None):
    torch.manual_seed(0)
    backbone = BACKBONES[name]
    return build_network(backbone, None, layers or len(backbone.ends))


@pytest.mark.parametrize("name", BACKBONES)
def test_layers_have_the_channels_of_the_row(name):
    values = torch.rand(1, 3, 96, 96)
    for layer, channels in zip(_network(name), BACKBONES[name].channels, strict=True):
        values = layer(values)
        assert values.shape[1] == channels


@pytest.mark.parametrize("unit", [False, True], ids=["raw", "unit"])
@pytest.mark.parametrize("name", ["alexnet", "squeezenet", "vgg16", "mobilenet"])
def test_equations_1_and_2_against_numpy(name, unit):
    one, other = _pictures()
    network = _network(name)
    result = DeepComparator(network, DeepSettings(unit=unit)).difference(one, other).numpy()
    mean = np.array([0.485, 0.456, 0.406])[:, None, None]
    deviation = np.array([0.229, 0.224, 0.225])[:, None, None]
    a, b = (torch.from_numpy((x.numpy() - mean) / deviation).float() for x in (one, other))
    total, count = np.zeros_like(result, dtype=np.float64), 0
    for layer in network:
        a, b = layer(a), layer(b)
        lengths = [np.linalg.norm(x.numpy(), axis=1) if unit else 1.0 for x in (a, b)]
        for k in range(a.shape[1]):
            difference = a[:, k].numpy() / lengths[0] - b[:, k].numpy() / lengths[1]
            difference = difference.astype(np.float64)
            product = difference * difference
            squared = torch.from_numpy(product * product)[:, None]
            total += torch.nn.functional.interpolate(squared, size=(64, 64), mode="bilinear")[:, 0].numpy()
        count += a.shape[1]
    assert result == pytest.approx(total / count, rel=2e-3)


@pytest.mark.parametrize(("name", "short"), LPIPS_NAMES.items())
def test_the_weighted_comparator_is_lpips(name, short):
    backbone = BACKBONES[name]
    network = _network(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package uses a deprecated argument of torchvision
        reference = lpips.LPIPS(net=short, pnet_rand=True, spatial=True, verbose=False)
    start = 0
    for index, end in enumerate(backbone.ends):
        theirs = getattr(reference.net, f"slice{index + 1}")
        for ours, module in zip(network[index], theirs, strict=True):
            module.load_state_dict(ours.state_dict())
        start = end
    assert start == backbone.ends[-1]
    learned = ModelStore().tensors(f"lpips-0.1-{short}")
    weights = [learned[f"layer{i}"] for i in range(len(network))]
    ours = DeepComparator(network, DeepSettings(unit=True, power=2), weights=weights)
    one, other = _pictures()
    with torch.no_grad():
        theirs = reference(one, other, normalize=True)[:, 0]
    # The package rounds the ImageNet statistics in its own [-1, 1] scaling.
    assert ours.difference(one, other).numpy() == pytest.approx(theirs.numpy(), rel=0.03, abs=1e-5)


def test_layers_add_up_to_the_whole():
    one, other = _pictures()
    network = _network("squeezenet")
    channels = BACKBONES["squeezenet"].channels
    whole = DeepComparator(network, DeepSettings()).difference(one, other)
    parts = [
        DeepComparator(network[: layer + 1], DeepSettings(layer=layer + 1)).difference(one, other) * count
        for layer, count in enumerate(channels)
    ]
    assert torch.allclose(torch.stack(parts).sum(0) / sum(channels), whole, rtol=1e-4)


def test_unit_length_makes_contrast_matter_less():
    one, other = _pictures()
    network = _network("alexnet")
    raw, unit = (DeepComparator(network, DeepSettings(unit=u)) for u in (False, True))
    ratios = [
        float(c.difference(one * 0.5, other * 0.5).mean() / c.difference(one, other).mean())
        for c in (raw, unit)
    ]
    assert ratios[0] < ratios[1]


def test_a_batch_equals_one_by_one():
    one, other = _pictures()
    comparator = DeepComparator(_network("squeezenet"), DeepSettings())
    together = comparator.difference(one, other)
    apart = torch.cat([comparator.difference(one[i : i + 1], other[i : i + 1]) for i in range(2)])
    assert torch.allclose(together, apart, rtol=1e-3, atol=1e-9)


NETWORKS = ("alexnet", "squeezenet", "vgg16", "mobilenet")
ROWS = [  # all of one network; of the others one raw, one unit, and one that looks at a layer
    name
    for name in COMPARATORS
    if "ptq" not in name
    and ("squeezenet" in name or name.endswith(("alexnet", "vgg16", "mobilenet", "-unit-l2")))
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store whose backbones are random ones; of VGG-16 and AlexNet only the convolutions."""
    import hashlib

    import torchvision

    folder = tmp_path_factory.mktemp("backbones")
    entries = {}
    for name in NETWORKS:
        backbone = BACKBONES[name]
        torch.manual_seed(1)
        network = getattr(torchvision.models, backbone.builder)(weights=None).features
        tensors = {
            f"features.{k}": v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()
        }
        path = folder / f"{name}.safetensors"
        save_file(tensors, path)
        entries[backbone.model] = ModelEntry(
            id=backbone.model,
            file=path.name,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest()[:8],
            licence="none",
            intended_use="tests",
            line="external",
        )
    return ModelStore(folder, manifest={**read_manifest(), **entries})


def test_the_table_has_every_network_layer_by_layer_raw_and_unit():
    for name in NETWORKS:
        layers = ["", *(f"-l{layer}" for layer in range(1, len(BACKBONES[name].ends) + 1))]
        for kind in (
            f"deep-{name}",
            f"deep-{name}-unit",
            *([f"lpips-{name}"] if name in LPIPS_NAMES else []),
        ):
            assert all(kind + layer in COMPARATORS for layer in layers)


def _spotted(aligned):
    """A face and the same with a dark square, each with the face as its counterpart."""
    from dataclasses import replace

    from service.appraisal.tables import Normalised

    spotted = aligned.rgb.copy()
    spotted[150:170, 170:190] = (60, 30, 30)
    normal = Normalised(rgb=aligned.rgb, valid=np.ones((256, 256), bool))
    return [aligned, replace(aligned, rgb=spotted)], [normal, normal]


@pytest.mark.parametrize("name", ROWS)
def test_rows_build_and_see_a_spot(store, aligned, name):
    comparator = COMPARATORS[name].build(Workplace(store=store))
    none, some = comparator.compare(*_spotted(aligned))
    assert none.shape == some.shape == (256, 256)
    assert some.dtype == np.float32
    assert float(none.max()) <= 1e-6
    assert some[150:170, 170:190].mean() > 3 * some[20:60, 20:60].mean()


@pytest.mark.parametrize("kind", ["deep-squeezenet", "deep-squeezenet-unit", "lpips-squeezenet"])
def test_maps_by_layer_are_those_of_the_layers_own_comparators(store, aligned, kind):
    (_, face), (_, normal) = _spotted(aligned)
    place = Workplace(store=store)
    maps = COMPARATORS[kind].build(place).compare_layers(face, normal)
    assert len(maps) == 7
    for number in (1, 4, 7):
        (own,) = COMPARATORS[f"{kind}-l{number}"].build(place).compare([face], [normal])
        assert maps[number - 1] == pytest.approx(own, rel=1e-3, abs=1e-9)


def test_early_layers_show_where_a_small_difference_is_and_late_ones_spread_it(store, aligned):
    """Fig. 5: the share of a map that lies on a small spot falls from the first layer to the last."""
    (_, face), (_, normal) = _spotted(aligned)
    maps = COMPARATORS["deep-squeezenet"].build(Workplace(store=store)).compare_layers(face, normal)
    shares = [float(part[150:170, 170:190].sum() / part.sum()) for part in maps]
    assert shares[0] > 0.8
    assert shares[0] > shares[2] > shares[-1]
    assert shares[-1] < 0.5


def test_the_whole_hash_of_a_model_goes_into_the_identity(store):
    assert len(store.sha256(["squeezenet1_1-imagenet"])) == 64


def test_weights_of_another_network_are_refused(store):
    tensors = store.tensors("squeezenet1_1-imagenet")
    with pytest.raises(ModelIntegrityError):
        build_network(BACKBONES["alexnet"], tensors, 5)
    wrong = {name: t[..., :1] if t.ndim == 4 else t for name, t in tensors.items()}
    with pytest.raises(ModelIntegrityError):
        build_network(BACKBONES["squeezenet"], wrong, 7)
