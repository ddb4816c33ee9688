"""Generators in NVIDIA's pickles, as tensors by rosinality's names. No code of theirs is run.

Two layouts: the original StyleGAN2 (TensorFlow: three `dnnlib.tflib` networks, the last of them the
averaged generator) and stylegan2-ada-pytorch (a dict whose `G_ema` carries its own source code and
its tensors; the source is not looked at). Names and shapes as in NVlabs/stylegan2
`training/networks_stylegan2.py` and NVlabs/stylegan2-ada-pytorch `training/networks.py`.
"""

from __future__ import annotations

import io
import math
import mmap
import re
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.appraisal.methods.stylegan2.layers import resampling_kernel
from service.appraisal.methods.stylegan2.pickles import Global, Made, Persistent, read_pickle
from service.errors import ModelIntegrityError, UnsafeModelError

Arrays = dict[str, NDArray[np.float32]]
Views = dict[str, NDArray[np.generic]]  # into the file's bytes

_NETWORK = Global("dnnlib.tflib.network", "Network")
_PERSISTENT = Global("torch_utils.persistence", "_reconstruct_persistent_obj")
_PARAMETER = Global("torch._utils", "_rebuild_parameter")
_TENSOR = Global("torch._utils", "_rebuild_tensor_v2")
_STORAGE = Global("torch.storage", "_load_from_bytes")
_ENCODE = Global("_codecs", "encode")
_NUMPY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_ARRAYS = frozenset(Global(module, "_reconstruct") for module in _NUMPY_MODULES)
_SCALARS = frozenset(Global(module, "scalar") for module in _NUMPY_MODULES)
_BUFFERS = frozenset(
    Global(module, "_frombuffer") for module in ("numpy.core.numeric", "numpy._core.numeric")
)
_MAPPINGS = frozenset(
    (
        Global("collections", "OrderedDict"),
        Global("dnnlib.util", "EasyDict"),
        Global("dnnlib", "EasyDict"),
    )
)
_STORAGE_TYPES: Mapping[str, str] = {
    "HalfStorage": "<f2",
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "ShortStorage": "<i2",
    "IntStorage": "<i4",
    "LongStorage": "<i8",
    "BoolStorage": "|b1",
}
_DTYPES = frozenset(("float16", "float32", "float64", "uint8", "int32", "int64", "bool", "bfloat16"))
ALLOWED = frozenset((
    _NETWORK,
    _PERSISTENT,
    _PARAMETER,
    _TENSOR,
    _STORAGE,
    _ENCODE,
    *_ARRAYS,
    *_SCALARS,
    *_BUFFERS,
    *_MAPPINGS,
    Global("numpy", "ndarray"),
    Global("numpy", "dtype"),
    Global("builtins", "set"),
    Global("__builtin__", "set"),
    Global("torch", "Size"),
    Global("torch", "device"),
    *(Global("torch", name) for name in _DTYPES),
))  # fmt: skip
_INSIDE_STORAGE = frozenset(Global("torch", name) for name in _STORAGE_TYPES) | frozenset(_MAPPINGS)
_NUMBER = re.compile(r"[<>|=]?[fiub][1248]")
_MAGIC = 0x1950A86A20F9469CFC6C  # of torch.save's older format
_GENERATOR, _AVERAGED = "G_ema", 2


def read_nvidia_pickle(path: Path) -> dict[str, Tensor]:
    """Read the averaged generator of a pickle, on the CPU, float32.

    Raises:
        UnsafeModelError: It asks for anything but known containers of numbers, or is damaged.
        ModelIntegrityError: It is no StyleGAN2 generator that we can run.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found, size = read_pickle(cast("BinaryIO", content), ALLOWED), len(content)
    except (OSError, ValueError) as exc:
        raise ModelIntegrityError(f"{path}: {exc}") from exc
    try:
        if isinstance(found, dict) and _GENERATOR in found:
            tensors = _from_torch(_floats(_module_views(found[_GENERATOR], "", set()), size))
        else:
            networks = found if isinstance(found, tuple) else (found,)
            views = _network_views(networks[min(_AVERAGED, len(networks) - 1)])
            tensors = _from_tensorflow(_floats(views, size))
    except KeyError as exc:
        raise ModelIntegrityError(f"{path}: no unconditional StyleGAN2 generator: {exc} is missing") from exc
    except (TypeError, ValueError, IndexError, RecursionError) as exc:
        raise UnsafeModelError(f"{path}: malformed: {exc}") from exc
    return {name: torch.from_numpy(np.array(array, order="C")) for name, array in tensors.items()}


def _floats(views: Views, size_bytes: int) -> Arrays:
    """Copy as float32; a file that names the same numbers over and over is refused before."""
    if sum(view.size for view in views.values()) > size_bytes:
        raise UnsafeModelError("the file tells of more numbers than it has")
    return {name: np.asarray(view, np.float32) for name, view in views.items()}


def _network_views(network: object, *, within: bool = False) -> Views:
    """Variables of a TensorFlow network and its components, by `component/variable`."""
    state = network.state if isinstance(network, Made) and network.what == _NETWORK else None
    if not isinstance(state, dict):
        raise ModelIntegrityError("no TensorFlow StyleGAN2 network")
    views = {name: _array(value) for name, value in _pairs(state["variables"])}
    _check_kernel(_mapping(state.get("static_kwargs", {})).get("resample_kernel", [1, 3, 3, 1]))
    components = _mapping(state.get("components", {}))
    if within and components:
        raise ModelIntegrityError("components within components: no StyleGAN2 network")
    for name, part in components.items():
        views.update({f"{name}/{key}": value for key, value in _network_views(part, within=True).items()})
    return views


def _module_views(module: object, prefix: str, seen: set[int]) -> Views:
    """Parameters and buffers of a persistent PyTorch module and those within, by dotted names."""
    meta = _mapping(module.args[0]) if isinstance(module, Made) and module.what == _PERSISTENT else None
    if meta is None or meta.get("type") != "class":
        raise ModelIntegrityError("no PyTorch StyleGAN2 module")
    if id(module) in seen:
        raise UnsafeModelError("a module is within itself or twice in another")
    seen.add(id(module))
    state = _mapping(meta["state"])
    views = {
        f"{prefix}{name}": _tensor(value)
        for kind in ("_parameters", "_buffers")
        for name, value in _mapping(state[kind]).items()
        if value is not None
    }
    for name, part in _mapping(state["_modules"]).items():
        views.update(_module_views(part, f"{prefix}{name}.", seen))
    return views


def _from_tensorflow(arrays: Arrays) -> Arrays:
    """Rename and turn; convolutions are height, width, inputs, outputs there."""

    def convolution(name: str, *, flipped: bool = False) -> NDArray[np.float32]:
        weight = arrays[f"{name}/weight"]
        return (weight[::-1, ::-1] if flipped else weight).transpose(3, 2, 0, 1)

    def style(name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return arrays[f"{name}/mod_weight"].T, arrays[f"{name}/mod_bias"] + np.float32(1)

    def layer(name: str, *, flipped: bool = False) -> _Layer:
        return (convolution(name, flipped=flipped), *style(name), arrays[f"{name}/bias"])

    found: Arrays = {"input.input": arrays["synthesis/4x4/Const/const"]}
    count = sum(bool(re.fullmatch(r"mapping/Dense\d+/weight", name)) for name in arrays)
    for index in range(count):
        dense = f"mapping/Dense{index}"
        found[f"style.{index + 1}.weight"] = arrays[f"{dense}/weight"].T
        found[f"style.{index + 1}.bias"] = arrays[f"{dense}/bias"]
    if any("LabelConcat" in name for name in arrays):
        raise ModelIntegrityError("the generator wants class labels")
    for level, side in enumerate(_sides(arrays, r"synthesis/(\d+)x\1/ToRGB/weight")):
        block = f"synthesis/{side}x{side}"
        names = (f"{block}/Conv",) if level == 0 else (f"{block}/Conv0_up", f"{block}/Conv1")
        layers = [(layer(n, flipped=n.endswith("_up")), arrays[f"{n}/noise_strength"]) for n in names]
        _add_block(found, level, layers, layer(f"{block}/ToRGB"))
    return found


def _from_torch(arrays: Arrays) -> Arrays:
    """Rename; shapes are ours but for the batch dimension of convolutions."""

    def layer(name: str) -> _Layer:
        parts = ("weight", "affine.weight", "affine.bias", "bias")
        weight, style, style_bias, bias = (arrays[f"{name}.{part}"] for part in parts)
        return weight, style, style_bias, bias

    found: Arrays = {"input.input": arrays["synthesis.b4.const"][None]}
    if any(name.startswith("mapping.embed.") for name in arrays):
        raise ModelIntegrityError("the generator wants class labels")
    for index in range(sum(bool(re.fullmatch(r"mapping\.fc\d+\.weight", name)) for name in arrays)):
        found[f"style.{index + 1}.weight"] = arrays[f"mapping.fc{index}.weight"]
        found[f"style.{index + 1}.bias"] = arrays[f"mapping.fc{index}.bias"]
    for name, array in arrays.items():
        if name.endswith("resample_filter"):
            _check_kernel(array)
    for level, side in enumerate(_sides(arrays, r"synthesis\.b(\d+)\.torgb\.weight")):
        block = f"synthesis.b{side}"
        names = ("conv1",) if level == 0 else ("conv0", "conv1")
        layers = [(layer(f"{block}.{n}"), arrays[f"{block}.{n}.noise_strength"]) for n in names]
        _add_block(found, level, layers, layer(f"{block}.torgb"))
    return found


_Layer = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


def _add_block(
    found: Arrays, level: int, layers: list[tuple[_Layer, NDArray[np.float32]]], to_rgb: _Layer
) -> None:
    """Add one resolution's (weight, style weight, style bias, bias) by rosinality's names."""
    for index, ((weight, style, style_bias, bias), strength) in enumerate(layers):
        name = "conv1" if level == 0 else f"convs.{2 * level - 2 + index}"
        found[f"{name}.conv.weight"] = weight[None]
        found[f"{name}.conv.modulation.weight"] = style
        found[f"{name}.conv.modulation.bias"] = style_bias
        found[f"{name}.noise.weight"] = strength.reshape(1)
        found[f"{name}.activate.bias"] = bias
    weight, style, style_bias, bias = to_rgb
    name = "to_rgb1" if level == 0 else f"to_rgbs.{level - 1}"
    found[f"{name}.conv.weight"] = weight[None]
    found[f"{name}.conv.modulation.weight"] = style
    found[f"{name}.conv.modulation.bias"] = style_bias
    found[f"{name}.bias"] = bias.reshape(1, 3, 1, 1)


def _sides(arrays: Arrays, pattern: str) -> list[int]:
    """Sides of the resolutions, from 4, each twice the one before."""
    sides = sorted(int(match[1]) for name in arrays if (match := re.fullmatch(pattern, name)))
    if sides != [4 * 2**level for level in range(len(sides))] or not sides:
        raise ModelIntegrityError(f"colours at {sides} only: not StyleGAN2 with skip connections")
    return sides


def _check_kernel(kernel: object) -> None:
    """Refuse generators that resample in another way."""
    taps = np.asarray(kernel if kernel is not None else 1, dtype=np.float64)
    whole = np.outer(taps, taps) if taps.ndim == 1 else taps
    if whole.shape != (4, 4) or not np.allclose(whole / whole.sum(), resampling_kernel().numpy(), atol=1e-4):
        raise ModelIntegrityError("the generator does not resample with the kernel [1, 3, 3, 1]")


def _mapping(value: object) -> dict[str, object]:
    """A dict, or an ordered or dotted one."""
    if isinstance(value, Made) and value.what in _MAPPINGS:
        given = _pairs(value.args[0]) if value.args else []
        value = dict([*given, *value.items.items()])
    if not isinstance(value, dict):
        raise UnsafeModelError("a mapping was expected")
    return {str(key): item for key, item in value.items()}


def _pairs(value: object) -> list[tuple[str, object]]:
    if isinstance(value, dict):
        return list(value.items())
    rows = value if isinstance(value, list | tuple) else ()
    if not all(isinstance(row, list | tuple) and len(row) == 2 for row in rows):
        raise UnsafeModelError("pairs of name and value were expected")
    return [(str(name), item) for name, item in rows]


def _array(value: object) -> NDArray[np.generic]:
    """A numpy array or scalar."""
    if isinstance(value, int | float):
        return np.asarray(value, np.float32)
    if isinstance(value, Made) and value.what in _ARRAYS and isinstance(value.state, tuple):
        _, shape, dtype, fortran, raw = value.state
        return _shaped(raw, dtype, shape, "F" if fortran else "C")
    if isinstance(value, Made) and value.what in _BUFFERS:
        raw, dtype, shape, order = value.args
        return _shaped(raw, dtype, shape, "F" if order == "F" else "C")
    if isinstance(value, Made) and value.what in _SCALARS:
        return np.frombuffer(_bytes(value.args[1]), _dtype(value.args[0])).reshape(())
    raise UnsafeModelError("an array was expected")


def _shaped(raw: object, dtype: object, shape: object, order: Literal["C", "F"]) -> NDArray[np.generic]:
    numbers = _dtype(dtype)
    found = np.frombuffer(_bytes(raw), numbers)
    if math.prod(_counts(shape)) != found.size:
        raise UnsafeModelError("an array's bytes are not as many as its shape says")
    return found.reshape(_counts(shape), order=order)


def _dtype(value: object) -> np.dtype[np.generic]:
    """A plain number type."""
    if not isinstance(value, Made) or value.what != Global("numpy", "dtype"):
        raise UnsafeModelError("a number type was expected")
    name = str(value.args[0])
    order = str(value.state[1]) if isinstance(value.state, tuple) else "|"
    if not _NUMBER.fullmatch(name) or order not in "<>|=":
        raise UnsafeModelError(f"arrays of {name!r} are no numbers")
    return np.dtype(name).newbyteorder(order)  # type: ignore[arg-type]


def _bytes(value: object) -> bytes | bytearray:
    if isinstance(value, Made) and value.what == _ENCODE and value.args[1:] == ("latin1",):
        return str(value.args[0]).encode("latin1")  # bytes in pickles of protocol 2
    if not isinstance(value, bytes | bytearray):
        raise UnsafeModelError("bytes were expected")
    return value


def _tensor(value: object) -> NDArray[np.generic]:
    """A PyTorch tensor or parameter."""
    if isinstance(value, Made) and value.what == _PARAMETER:
        value = value.args[0]
    if not isinstance(value, Made) or value.what != _TENSOR:
        raise UnsafeModelError("a tensor was expected")
    storage, offset, size, stride = value.args[:4]
    if not isinstance(storage, Made) or storage.what != _STORAGE:
        raise UnsafeModelError("a tensor's storage was expected")
    numbers = _storage(_bytes(storage.args[0]))
    dims = [(n, step) for n, step in zip(_counts(size), _counts(stride), strict=True)]
    start = _counts((offset,))[0]
    last = start + sum((n - 1) * step for n, step in dims)
    count = math.prod(n for n, _ in dims)
    if count > numbers.size or (count and last >= numbers.size):
        raise UnsafeModelError("a tensor reaches beyond its storage")
    width = numbers.itemsize
    return np.lib.stride_tricks.as_strided(
        numbers[start:], [n for n, _ in dims], [step * width for _, step in dims], writeable=False
    )


def _counts(value: object) -> list[int]:
    if isinstance(value, Made) and value.what == Global("torch", "Size"):
        value = value.args[0]
    if not isinstance(value, tuple) or not all(isinstance(n, int) and n >= 0 for n in value):
        raise UnsafeModelError("sizes of a tensor were expected")
    return [int(n) for n in value]


def _storage(data: bytes | bytearray) -> NDArray[np.generic]:
    """One storage in torch.save's older format: five pickles, a count, the numbers."""
    file = io.BytesIO(data)
    magic, _, _, reference, keys = (read_pickle(file, _INSIDE_STORAGE) for _ in range(5))
    told = reference.value if isinstance(reference, Persistent) else None
    if magic != _MAGIC or not isinstance(told, tuple) or len(told) < 5 or not isinstance(keys, list):
        raise UnsafeModelError("not one storage of numbers")
    kind, numbers = told[1], memoryview(data)[file.tell() :]
    dtype = np.dtype(_STORAGE_TYPES.get(kind.name if isinstance(kind, Global) else "", "V1"))
    if dtype.kind == "V" or len(keys) != 1 or len(numbers) != 8 + int(told[4]) * dtype.itemsize:
        raise UnsafeModelError("a storage's numbers are not as many as it says")
    return np.frombuffer(numbers, dtype, offset=8)
