"""MobileNetV2 of TensorFlow Lite, quantised, as tensors by torchvision's names.

The published file (Sandler et al. 2018; post-training quantisation) has batch normalisation folded
into its convolutions, wants pictures from -1 to 1 and knows a background class. What comes out is
torchvision's `mobilenet_v2`: its input normalised with ImageNet's mean and deviation, batch
normalisation that only adds the bias, 1,000 classes. Two things stay different: TensorFlow pads the
strided convolutions on one side only, and the values between layers are not rounded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tflite
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.appraisal.model_files.imagenet import IMAGENET_MEAN, IMAGENET_SD
from service.errors import ModelIntegrityError, UnsafeModelError

_NORM_EPSILON = 1e-5  # of torchvision's batch normalisation
_BLOCKS = 17  # inverted residuals
_CLASSES = 1000
_NUMBERS = {tflite.TensorType.INT8: "<i1", tflite.TensorType.INT32: "<i4", tflite.TensorType.FLOAT32: "<f4"}
_CONVOLUTIONS = (tflite.BuiltinOperator.CONV_2D, tflite.BuiltinOperator.DEPTHWISE_CONV_2D)
_MALFORMED = (struct.error, ValueError, LookupError, TypeError, AttributeError, OverflowError, MemoryError)

Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Convolution:
    """One convolution with its bias, dequantised."""

    weight: Array  # (outputs, inputs or 1, k, k)
    bias: Array  # (outputs,)


def load_mobilenet(path: Path) -> dict[str, Tensor]:
    """Read the file, on the CPU, float32.

    Raises:
        UnsafeModelError: It is no whole TensorFlow Lite file.
        ModelIntegrityError: It is one, of another network.
    """
    try:
        convolutions = list(_convolutions(path.read_bytes()))
    except _MALFORMED as exc:
        raise UnsafeModelError(f"{path}: no whole TensorFlow Lite file: {exc}") from exc
    except OSError as exc:
        raise ModelIntegrityError(f"{path}: {exc}") from exc
    names = list(_names())
    if len(convolutions) != len(names) + 1 or convolutions[0].weight.shape[1] != 3:
        raise ModelIntegrityError(f"{path}: {len(convolutions)} convolutions: no MobileNetV2")
    *features, last = convolutions
    features[0] = _for_imagenet_input(features[0])
    tensors: dict[str, Tensor] = {}
    for (convolution, norm), found in zip(names, features, strict=True):
        count = len(found.bias)
        tensors[f"{convolution}.weight"] = torch.from_numpy(found.weight)
        tensors[f"{norm}.weight"] = torch.ones(count)
        tensors[f"{norm}.bias"] = torch.from_numpy(found.bias)
        tensors[f"{norm}.running_mean"] = torch.zeros(count)
        tensors[f"{norm}.running_var"] = torch.full((count,), 1.0 - _NORM_EPSILON)
        tensors[f"{norm}.num_batches_tracked"] = torch.tensor(0)
    classes = len(last.bias) - _CLASSES  # the background comes first
    tensors["classifier.1.weight"] = torch.from_numpy(last.weight[classes:, :, 0, 0].copy())
    tensors["classifier.1.bias"] = torch.from_numpy(last.bias[classes:].copy())
    return tensors


def _names() -> Iterator[tuple[str, str]]:
    """Torchvision's names of each convolution and its normalisation, in the order they are applied."""
    yield "features.0.0", "features.0.1"
    for block in range(1, _BLOCKS + 1):
        name = f"features.{block}.conv"
        if block > 1:  # the first does not widen
            yield f"{name}.0.0", f"{name}.0.1"
        depthwise = 0 if block == 1 else 1
        yield f"{name}.{depthwise}.0", f"{name}.{depthwise}.1"
        yield f"{name}.{depthwise + 1}", f"{name}.{depthwise + 2}"
    yield "features.18.0", "features.18.1"


def _convolutions(data: bytes) -> Iterator[_Convolution]:
    """The convolutions in the order they are applied."""
    model = tflite.Model.GetRootAsModel(data, 0)
    graph = model.Subgraphs(0)
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if kind in _CONVOLUTIONS:
            inputs = operator.InputsAsNumpy()
            weight = _dequantised(model, graph.Tensors(int(inputs[1])))
            depthwise = kind == tflite.BuiltinOperator.DEPTHWISE_CONV_2D
            order = (3, 0, 1, 2) if depthwise else (0, 3, 1, 2)  # 1HWO, OHWI -> OIHW
            bias = _dequantised(model, graph.Tensors(int(inputs[2])))
            yield _Convolution(weight=np.ascontiguousarray(weight.transpose(order)), bias=bias)


def _dequantised(model: tflite.Model, tensor: tflite.Tensor) -> Array:
    """(value - zero point) * scale, by channel."""
    shape = tuple(int(n) for n in tensor.ShapeAsNumpy())
    raw = model.Buffers(tensor.Buffer()).DataAsNumpy()
    values = np.frombuffer(raw.tobytes(), _NUMBERS[tensor.Type()]).reshape(shape)
    quantisation = tensor.Quantization()
    if quantisation is None or quantisation.ScaleLength() == 0:
        return np.asarray(values, np.float32)
    along = [1] * len(shape)
    along[quantisation.QuantizedDimension()] = -1
    zero = quantisation.ZeroPointAsNumpy() if quantisation.ZeroPointLength() else np.zeros(1)
    scaled = (values - zero.reshape(along)) * quantisation.ScaleAsNumpy().reshape(along)
    return np.asarray(scaled, np.float32)


def _for_imagenet_input(first: _Convolution) -> _Convolution:
    """Take a picture normalised for ImageNet, v, where the file's takes 2 (sd v + mean) - 1."""
    mean, deviation = np.array(IMAGENET_MEAN, np.float32), np.array(IMAGENET_SD, np.float32)
    offset = np.einsum("ochw,c->o", first.weight, 2 * mean - 1)
    weight = first.weight * (2 * deviation)[None, :, None, None]
    return _Convolution(weight=weight.astype(np.float32), bias=(first.bias + offset).astype(np.float32))
