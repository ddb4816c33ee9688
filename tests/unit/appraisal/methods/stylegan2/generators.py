"""Small generators, and files of them in the layouts of others."""

from __future__ import annotations

import pickle
import sys
import types
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from service.appraisal.methods.stylegan2.generator import Generator, GeneratorShape

SOURCE = "import pathlib; pathlib.Path('ran').touch()"  # carried by both layouts, never to be run


def small_generator(*, plain: bool = False, **sizes: int) -> Generator:
    """A frozen generator with random weights; biases and noise strengths as before training, if plain."""
    torch.manual_seed(0)
    shape = GeneratorShape(**{"size": 16, "style_dim": 8, "mapping_layers": 2, "most_channels": 8, **sizes})
    made = Generator(shape)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if not plain and (
                "bias" in name or "noise" in name
            ):  # in steps that float32 adds and takes away exactly
                parameter.copy_((0.3 + 0.5 * torch.randn_like(parameter)).mul(256).round() / 256)
    return made.eval().requires_grad_(False)


def as_tensorflow(
    path: Path, generator: Generator, monkeypatch: pytest.MonkeyPatch, *, protocol: int = 4, **changes: object
) -> Path:
    """Write (G, D, Gs) as NVlabs/stylegan2 does: dnnlib.tflib networks with their source and variables."""
    network = _imitation(monkeypatch, "dnnlib.tflib.network", "Network")
    dotted = _imitation(monkeypatch, "dnnlib.util", "EasyDict", dict)
    tensors = {name: value.numpy() for name, value in generator.state_dict().items()}
    variables: dict[str, dict[str, object]] = {"mapping": {}, "synthesis": {}}
    for index in range(generator.shape.mapping_layers):
        variables["mapping"][f"Dense{index}/weight"] = tensors[f"style.{index + 1}.weight"].T
        variables["mapping"][f"Dense{index}/bias"] = tensors[f"style.{index + 1}.bias"]
    synthesis = variables["synthesis"]
    synthesis["4x4/Const/const"] = tensors["input.input"]
    for ours, _, theirs, side in _layers(generator):
        weight = tensors[f"{ours}.conv.weight"][0].transpose(2, 3, 1, 0)
        name = f"{side}x{side}/{theirs}"
        synthesis[f"{name}/weight"] = weight[::-1, ::-1] if theirs.endswith("_up") else weight
        synthesis[f"{name}/mod_weight"] = tensors[f"{ours}.conv.modulation.weight"].T
        synthesis[f"{name}/mod_bias"] = tensors[f"{ours}.conv.modulation.bias"] - 1
        if theirs == "ToRGB":
            synthesis[f"{name}/bias"] = tensors[f"{ours}.bias"].reshape(3)
        else:
            synthesis[f"{name}/bias"] = tensors[f"{ours}.activate.bias"]
            synthesis[f"{name}/noise_strength"] = tensors[f"{ours}.noise.weight"][0]
    parts = {}
    for kind, values in variables.items():
        parts[kind] = _tensorflow_network(network, kind, values, dotted(resample_kernel=[1, 3, 3, 1]))
    averaged = _tensorflow_network(network, "Gs", {"lod": tensors["input.input"][0, 0, 0, 0]}, dotted())
    averaged.__dict__.update({"components": dotted(parts), **changes})
    other = _tensorflow_network(network, "G", {}, dotted())
    path.write_bytes(pickle.dumps((other, other, averaged), protocol=protocol))
    return path


def as_torch(
    path: Path, generator: Generator, monkeypatch: pytest.MonkeyPatch, *, protocol: int = 3, **extra: object
) -> Path:
    """Write {"G_ema": ...} as stylegan2-ada-pytorch does: modules that carry their source code."""
    module = types.ModuleType("torch_utils.persistence")

    def _reconstruct_persistent_obj(meta: dict[str, object]) -> None:
        raise AssertionError("the reader is not to call this")

    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    vars(module)["_reconstruct_persistent_obj"] = _reconstruct_persistent_obj
    monkeypatch.setitem(sys.modules, "torch_utils", types.ModuleType("torch_utils"))
    monkeypatch.setitem(sys.modules, "torch_utils.persistence", module)

    class Persistent:
        def __init__(self, values: dict[str, torch.Tensor], buffers: dict[str, torch.Tensor]) -> None:
            self.parameters = {k: torch.nn.Parameter(v) for k, v in values.items()}
            self.buffers, self.modules = buffers, {}  # type: ignore[var-annotated]

        def add(self, dotted: str, part: Persistent) -> None:
            first, _, rest = dotted.partition(".")
            if rest:
                self.modules[first].add(rest, part)
            else:
                self.modules[first] = part

        def __reduce__(self) -> tuple[object, ...]:
            state = {
                "training": False,
                "_parameters": OrderedDict(self.parameters),
                "_buffers": OrderedDict(self.buffers),
                "_non_persistent_buffers_set": set(),
                "_modules": OrderedDict(self.modules),
                "_init_kwargs": {"img_channels": 3},
            }
            meta = {"type": "class", "version": 6, "module_src": SOURCE, "class_name": "G", "state": state}
            return _reconstruct_persistent_obj, (meta,), None

    tensors = generator.state_dict()
    root = Persistent({}, {})
    root.add("mapping", Persistent({}, {"w_avg": torch.zeros(generator.shape.style_dim)}))
    for index in range(generator.shape.mapping_layers):
        values = {"weight": tensors[f"style.{index + 1}.weight"], "bias": tensors[f"style.{index + 1}.bias"]}
        root.add(f"mapping.fc{index}", Persistent(values, {}))
    root.add("synthesis", Persistent({}, {}))
    kernel = {"resample_filter": torch.tensor([[1.0, 3, 3, 1]]).T @ torch.tensor([[1.0, 3, 3, 1]]) / 64}
    for ours, theirs, _, side in _layers(generator):
        block = f"synthesis.b{side}"
        if (theirs == "conv1" and side == 4) or theirs == "conv0":
            const = {"const": tensors["input.input"][0]} if side == 4 else {}
            root.add(block, Persistent(const, dict(kernel)))
        is_colour = theirs == "torgb"
        values = {
            "weight": tensors[f"{ours}.conv.weight"][0],
            "bias": tensors[f"{ours}.bias"].reshape(3) if is_colour else tensors[f"{ours}.activate.bias"],
        }
        if not is_colour:
            values["noise_strength"] = tensors[f"{ours}.noise.weight"][0]
        root.add(f"{block}.{theirs}", Persistent(values, {} if is_colour else dict(kernel)))
        affine = ("weight", "bias")
        style = {part: tensors[f"{ours}.conv.modulation.{part}"] for part in affine}
        root.add(f"{block}.{theirs}.affine", Persistent(style, {}))
    path.write_bytes(pickle.dumps({"G": None, "G_ema": root, **extra}, protocol=protocol))
    return path


def _layers(generator: Generator) -> list[tuple[str, str, str, int]]:
    """Rosinality's name, stylegan2-ada-pytorch's, TensorFlow's and the side of each layer."""
    found = [("conv1", "conv1", "Conv", 4), ("to_rgb1", "torgb", "ToRGB", 4)]
    for level, _ in enumerate(generator.to_rgbs):
        side = 8 * 2**level
        found += [
            (f"convs.{2 * level}", "conv0", "Conv0_up", side),
            (f"convs.{2 * level + 1}", "conv1", "Conv1", side),
            (f"to_rgbs.{level}", "torgb", "ToRGB", side),
        ]
    return found


def _imitation(monkeypatch: pytest.MonkeyPatch, module: str, name: str, base: type = object) -> type:
    """A class that pickles under a foreign name."""
    made = type(name, (base,), {"__module__": module})
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        dotted = ".".join(parts[:end])
        if dotted not in sys.modules:
            monkeypatch.setitem(sys.modules, dotted, types.ModuleType(dotted))
    setattr(sys.modules[module], name, made)
    return made


def _tensorflow_network(network: type, name: str, variables: dict[str, object], static: object) -> object:
    made = network()
    made.__dict__.update(
        version=4,
        name=name,
        static_kwargs=static,
        components={},
        build_module_src=SOURCE,
        build_func_name="build",
        variables=list(variables.items()),
    )
    return made
