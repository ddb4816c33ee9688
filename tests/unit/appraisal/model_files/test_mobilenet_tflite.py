from __future__ import annotations

import os
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
import tflite
import torch
import torchvision
from skimage import data
from torch.nn import functional

from service.appraisal.conversion import convert_model
from service.appraisal.model_files.imagenet import IMAGENET_MEAN, IMAGENET_SD
from service.appraisal.model_files.mobilenet_tflite import load_mobilenet
from service.appraisal.model_files.models import ModelEntry, ModelStore, load_tensors
from service.appraisal.registry import COMPARATORS
from service.appraisal.tables import Workplace
from service.errors import ModelIntegrityError, UnsafeModelError

pytestmark = pytest.mark.usefixtures("one_thread")
SHARED = Path(os.environ.get("SEMBLANCE_TEST_SHARED", Path(__file__).parents[5] / "shared"))
PUBLISHED = SHARED / "models" / "mobilenet_v2_1.0_224_imagenet_ptq.tflite"
# Outputs, stride of the strided one and repeats of each stage of Sandler et al. 2018, table 2.
STAGES = ((16, 1, 1), (24, 2, 2), (32, 2, 3), (64, 2, 4), (96, 1, 3), (160, 2, 3), (320, 1, 1))


def _layers():
    """Kind, inputs, outputs and stride of each convolution; "add" after those that end a shortcut."""
    yield "conv", 3, 32, 2
    inputs = 32
    for number, (outputs, stride, repeats) in enumerate(STAGES):
        for repeat in range(repeats):
            wide = inputs if number == 0 else 6 * inputs
            if number:
                yield "conv", inputs, wide, 1
            yield "depthwise", wide, wide, stride if repeat == 0 else 1
            yield ("add" if repeat else "project"), wide, outputs, 1
            inputs = outputs
    yield "conv", 320, 1280, 1
    yield "logits", 1280, 1001, 1


@pytest.fixture(scope="module")
def drawn():
    """Quantised weights of every convolution: (kind, stride, values, scales, bias, bias scales)."""
    rng = np.random.default_rng(0)
    found = []
    for index, (kind, inputs, outputs, stride) in enumerate(_layers()):
        side = 3 if kind == "depthwise" or index == 0 else 1
        shape = (1, side, side, outputs) if kind == "depthwise" else (outputs, side, side, inputs)
        fan_in = side * side * (1 if kind == "depthwise" else inputs)
        scales = (rng.uniform(0.5, 1.5, outputs) / 64 / np.sqrt(fan_in)).astype(np.float32)
        values = rng.integers(-127, 128, shape).astype(np.int8)
        bias = rng.integers(-40, 40, outputs).astype(np.int32)
        found.append((kind, stride, values, scales, bias, np.full(outputs, 0.01, np.float32)))
    return found


def _write(path, drawn):
    """A TensorFlow Lite file of these convolutions, one after the other."""
    builder = flatbuffers.Builder(1 << 22)

    def vector(start, items, put):
        start(builder, len(items))
        for item in reversed(items):
            put(item)
        return builder.EndVector()

    buffers, tensors, operators = [], [], []

    def tensor(array, scales, axis):
        raw = builder.CreateByteVector(array.tobytes())
        tflite.BufferStart(builder)
        tflite.BufferAddData(builder, raw)
        buffers.append(tflite.BufferEnd(builder))
        scale, zero = (
            builder.CreateNumpyVector(scales),
            builder.CreateNumpyVector(np.zeros(len(scales), np.int64)),
        )
        tflite.QuantizationParametersStart(builder)
        tflite.QuantizationParametersAddScale(builder, scale)
        tflite.QuantizationParametersAddZeroPoint(builder, zero)
        tflite.QuantizationParametersAddQuantizedDimension(builder, axis)
        quantisation = tflite.QuantizationParametersEnd(builder)
        shape = builder.CreateNumpyVector(np.array(array.shape, np.int32))
        tflite.TensorStart(builder)
        tflite.TensorAddShape(builder, shape)
        kind = tflite.TensorType.INT8 if array.dtype == np.int8 else tflite.TensorType.INT32
        tflite.TensorAddType(builder, kind)
        tflite.TensorAddBuffer(builder, len(buffers) - 1)
        tflite.TensorAddQuantization(builder, quantisation)
        tensors.append(tflite.TensorEnd(builder))
        return len(tensors) - 1

    for kind, _, values, scales, bias, bias_scales in drawn:
        inputs = [0, tensor(values, scales, 3 if kind == "depthwise" else 0), tensor(bias, bias_scales, 0)]
        wanted = builder.CreateNumpyVector(np.array(inputs, np.int32))
        tflite.OperatorStart(builder)
        tflite.OperatorAddOpcodeIndex(builder, int(kind == "depthwise"))
        tflite.OperatorAddInputs(builder, wanted)
        operators.append(tflite.OperatorEnd(builder))
    codes = []
    for code in (tflite.BuiltinOperator.CONV_2D, tflite.BuiltinOperator.DEPTHWISE_CONV_2D):
        tflite.OperatorCodeStart(builder)
        tflite.OperatorCodeAddDeprecatedBuiltinCode(builder, code)
        tflite.OperatorCodeAddBuiltinCode(builder, code)
        codes.append(tflite.OperatorCodeEnd(builder))
    put = builder.PrependUOffsetTRelative
    all_tensors = vector(tflite.SubGraphStartTensorsVector, tensors, put)
    all_operators = vector(tflite.SubGraphStartOperatorsVector, operators, put)
    tflite.SubGraphStart(builder)
    tflite.SubGraphAddTensors(builder, all_tensors)
    tflite.SubGraphAddOperators(builder, all_operators)
    graph = tflite.SubGraphEnd(builder)
    graphs = vector(tflite.ModelStartSubgraphsVector, [graph], put)
    all_codes = vector(tflite.ModelStartOperatorCodesVector, codes, put)
    all_buffers = vector(tflite.ModelStartBuffersVector, buffers, put)
    tflite.ModelStart(builder)
    tflite.ModelAddSubgraphs(builder, graphs)
    tflite.ModelAddOperatorCodes(builder, all_codes)
    tflite.ModelAddBuffers(builder, all_buffers)
    builder.Finish(tflite.ModelEnd(builder), file_identifier=b"TFL3")
    path.write_bytes(builder.Output())
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory, drawn):
    return _write(tmp_path_factory.mktemp("tflite") / "mobilenet.tflite", drawn)


def _dequantised_network(drawn, rgb, pad):
    """Logits of a picture, 0..1, straight from the quantised numbers, in TensorFlow's terms."""
    values, shortcut = rgb * 2 - 1, None
    for index, (kind, stride, quantised, scales, bias, bias_scales) in enumerate(drawn):
        depthwise = kind == "depthwise"
        by_output = (1, 1, 1, -1) if depthwise else (-1, 1, 1, 1)
        weight = torch.from_numpy((quantised * scales.reshape(by_output)).astype(np.float32))
        weight = weight.permute(3, 0, 1, 2) if depthwise else weight.permute(0, 3, 1, 2)
        if kind == "logits":
            values = values.mean((2, 3), keepdim=True)
        elif kind == "conv" and index and quantised.shape[1] == 1:
            shortcut = values
        if weight.shape[2] == 3:
            values = pad(values, stride, first=index == 0)
        groups = weight.shape[0] if depthwise else 1
        values = functional.conv2d(
            values, weight, torch.from_numpy((bias * bias_scales).astype(np.float32)), stride, 0, 1, groups
        )
        if kind in ("conv", "depthwise"):
            values = values.clamp(0, 6)
        if kind == "add":
            values = values + shortcut
    return values[0, :, 0, 0]


def _torchvision_padding(values, stride, *, first):
    """One on every side; before the first convolution of what is nothing after ImageNet's scaling."""
    if not first:
        return functional.pad(values, (1, 1, 1, 1))
    mean = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1) * 2 - 1
    return functional.pad(values - mean, (1, 1, 1, 1)) + mean


def _tensorflow_padding(values, stride, *, first):
    """ "SAME": as many samples as the size over the stride, the odd one at the end."""
    size = values.shape[2]
    total = max((-(-size // stride) - 1) * stride + 3 - size, 0)
    before, after = total // 2, total - total // 2
    return functional.pad(values, (before, after, before, after))


def _torchvision_logits(tensors, rgb):
    network = torchvision.models.mobilenet_v2(weights=None)
    network.load_state_dict(tensors)
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_SD))
    with torch.no_grad():
        return network.eval()((rgb - mean) / deviation)[0]


def test_torchvisions_network_computes_what_the_quantised_numbers_say(file, drawn):
    rgb = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    ours = _torchvision_logits(load_mobilenet(file), rgb)
    theirs = _dequantised_network(drawn, rgb, _torchvision_padding)[1:]  # without the background
    assert ours.numpy() == pytest.approx(theirs.numpy(), rel=1e-3, abs=1e-3)
    assert float(ours.std()) > 0.01


PICTURES = {"cat": 285, "coffee": 967, "rocket": 657}  # Egyptian cat, espresso, missile


if PUBLISHED.is_file():  # a clone has no published weights, and CI takes no skipped test

    @pytest.mark.parametrize("name", PICTURES)
    def test_the_published_file_names_the_same_thing_either_way(name):
        picture = getattr(data, name)()
        side = min(picture.shape[:2])
        top, left = ((n - side) // 2 for n in picture.shape[:2])
        square = (
            torch.from_numpy(picture[top : top + side, left : left + side].copy()).permute(2, 0, 1)[None]
            / 255
        )
        rgb = functional.interpolate(square, size=(224, 224), mode="area")
        numbers = _read(PUBLISHED)
        theirs = int(_dequantised_network(numbers, rgb, _tensorflow_padding)[1:].argmax())
        assert int(_torchvision_logits(load_mobilenet(PUBLISHED), rgb).argmax()) == theirs == PICTURES[name]


def _read(path):
    """As `drawn`, of a file."""
    model = tflite.Model.GetRootAsModel(path.read_bytes(), 0)
    graph, found, layers = model.Subgraphs(0), [], iter(_layers())
    for index in range(graph.OperatorsLength()):
        inputs = graph.Operators(index).InputsAsNumpy()
        if len(inputs) != 3:
            continue
        kind, _, _, stride = next(layers)
        arrays = []
        for number, dtype in ((inputs[1], np.int8), (inputs[2], np.int32)):
            tensor = graph.Tensors(int(number))
            raw = model.Buffers(tensor.Buffer()).DataAsNumpy().tobytes()
            arrays += [
                np.frombuffer(raw, dtype).reshape(tensor.ShapeAsNumpy()),
                tensor.Quantization().ScaleAsNumpy(),
            ]
        found.append((kind, stride, *arrays))
    return found


def test_the_comparator_finds_the_file_by_manifest_and_checksum(file, aligned):
    import hashlib

    from service.appraisal.tables import Normalised

    entry = ModelEntry(
        id="mobilenet_v2-imagenet-ptq", file=file.name, line="external", licence="", intended_use="",
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
    )  # fmt: skip
    store = ModelStore(file.parent, manifest={entry.id: entry})
    comparator = COMPARATORS["deep-mobilenet-ptq-l2"].build(Workplace(store=store))
    same, mirrored = comparator.compare(
        [aligned, aligned],
        [Normalised(rgb=rgb, valid=aligned.inside) for rgb in (aligned.rgb, aligned.rgb[:, ::-1].copy())],
    )
    assert same.max() == 0
    assert mirrored.mean() > 0


def test_converted_it_is_the_same_safetensors(file, tmp_path):
    made = convert_model(file, tmp_path / "m.safetensors")
    ours, theirs = load_tensors(made.path), load_tensors(file)
    assert made.content == "MobileNetV2"
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("keep", [0, 4, 100, 5000])
def test_a_file_cut_short_is_refused(file, keep, tmp_path):
    (tmp_path / "cut.tflite").write_bytes(file.read_bytes()[:keep])
    with pytest.raises((UnsafeModelError, ModelIntegrityError)):
        load_mobilenet(tmp_path / "cut.tflite")


def test_damaged_bytes_are_refused_or_harmless(file, tmp_path):
    rng, whole = np.random.default_rng(0), bytearray(file.read_bytes())
    for _ in range(60):
        broken = bytearray(whole[-40_000:] if rng.random() < 0.5 else whole[:40_000])
        broken[:8] = whole[:8]
        for place in rng.integers(0, len(broken), 20):
            broken[place] = rng.integers(256)
        (tmp_path / "broken.tflite").write_bytes(bytes(broken))
        with pytest.raises((UnsafeModelError, ModelIntegrityError)):
            load_mobilenet(tmp_path / "broken.tflite")


def test_another_network_is_refused(drawn, tmp_path):
    with pytest.raises(ModelIntegrityError, match="no MobileNetV2"):
        load_mobilenet(_write(tmp_path / "short.tflite", drawn[:5]))
    with pytest.raises(ModelIntegrityError):
        load_mobilenet(tmp_path / "none.tflite")
