from __future__ import annotations

import hashlib
import io
import os
import pickle
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from service.appraisal.conversion import convert_model
from service.appraisal.methods.stylegan2.generator import generator_from, load_generator
from service.appraisal.methods.stylegan2.nvidia import ALLOWED, read_nvidia_pickle
from service.appraisal.methods.stylegan2.pickles import Global, read_pickle
from service.commands.science.models import app
from service.errors import ConfigurationError, ModelIntegrityError, UnsafeModelError
from service.exit_codes import ExitCode
from tests.unit.appraisal.methods.stylegan2.generators import as_tensorflow, as_torch, small_generator

pytestmark = pytest.mark.usefixtures("one_thread")
LAYOUTS = {"TensorFlow": as_tensorflow, "PyTorch": as_torch}


@pytest.fixture(autouse=True)
def nothing_ran(tmp_path, monkeypatch):
    """Whatever code a file carries would leave a file named "ran" here."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / "ran").exists()


def _picture(generator):
    draws = torch.Generator().manual_seed(1)
    z = torch.randn(2, generator.shape.style_dim, generator=draws)
    return generator.synthesise(generator.map(z), generator.draw_noise(2, draws, "cpu"))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_generator_comes_out_bit_for_bit(layout, protocol, tmp_path, monkeypatch):
    generator = small_generator(size=32, mapping_layers=3, channel_base=128)
    path = LAYOUTS[layout](tmp_path / "g.pkl", generator, monkeypatch, protocol=protocol)
    assert torch.equal(_picture(generator_from(read_nvidia_pickle(path))), _picture(generator))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_file_written_loads_and_names_its_source(layout, tmp_path, monkeypatch):
    generator = small_generator()
    path = LAYOUTS[layout](tmp_path / "g.pkl", generator, monkeypatch)
    made = convert_model(path, tmp_path / "out" / "g.safetensors")
    assert torch.equal(_picture(load_generator(made.path)), _picture(generator))
    assert "16 px" in made.content
    from safetensors import safe_open

    with safe_open(made.path, "pt") as file:
        assert file.metadata() == {"converted_from_sha256": made.source_sha256}
    half = convert_model(path, tmp_path / "half.safetensors", half=True)
    assert half.path.stat().st_size < 0.7 * made.path.stat().st_size


def test_the_command_ends_with_the_manifests_lines_or_the_reason(tmp_path, monkeypatch):
    path = as_tensorflow(tmp_path / "g.pkl", small_generator(), monkeypatch)
    done = CliRunner().invoke(app, ["convert", str(path), str(tmp_path / "g.safetensors")])
    assert done.exit_code == ExitCode.DONE
    digest = hashlib.sha256((tmp_path / "g.safetensors").read_bytes()).hexdigest()
    assert done.stdout == f'file = "g.safetensors"\nsha256 = "{digest}"\n'
    path.write_bytes(pickle.dumps(_Calls(os.system, "touch ran")))
    refused = CliRunner().invoke(app, ["convert", str(path), str(tmp_path / "evil.safetensors")])
    assert refused.exit_code == ExitCode.FAILED
    assert "system" in refused.stderr
    assert not (tmp_path / "evil.safetensors").exists()


def test_rosinalitys_checkpoint_is_converted_too(tmp_path):
    generator = small_generator()
    torch.save({"g_ema": generator.state_dict()}, tmp_path / "g.pt")
    made = convert_model(tmp_path / "g.pt", tmp_path / "g.safetensors")
    assert torch.equal(_picture(load_generator(made.path)), _picture(generator))


class _Calls:
    def __init__(self, call, *args):
        self._call, self._args = call, args

    def __reduce__(self):
        return self._call, self._args


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "evil",
    [
        _Calls(os.system, "touch ran"),
        _Calls(eval, "open('ran', 'w')"),
        _Calls(exec, "open('ran', 'w')"),
        _Calls(open, "ran", "w"),
        _Calls(getattr, "a", "upper"),
        _Calls(__import__, "antigravity"),
        _Calls(bytearray, 1 << 50),
    ],
    ids=["system", "eval", "exec", "open", "getattr", "import", "bytearray"],
)
def test_a_pickle_that_calls_is_refused_and_runs_nothing(evil, protocol, tmp_path):
    for content in (evil, {"G_ema": evil}, (1, 2, [evil])):
        (tmp_path / "evil.pkl").write_bytes(pickle.dumps(content, protocol))
        with pytest.raises(UnsafeModelError):
            convert_model(tmp_path / "evil.pkl", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_code_beside_a_good_generator_is_refused_too(tmp_path, monkeypatch):
    path = as_torch(tmp_path / "g.pkl", small_generator(), monkeypatch, D=_Calls(os.system, "touch ran"))
    with pytest.raises(UnsafeModelError, match="system"):
        read_nvidia_pickle(path)


RAW = {
    "an attribute of something allowed": b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.tofile\x93.",
    "a call of a call's result": b"cnumpy\ndtype\n(S'f4'\ntR(S'x'\ntR.",
    "an instance by name": b"(S'touch ran'\nios\nsystem\n.",
    "an extension": b"\x80\x02\x82\x01.",
    "state for a class": b"cnumpy\ndtype\n}(S'__setstate__'\nNub.",
    "items for a number": b"K\x01(K\x02K\x03u.",
    "elements for a number": b"K\x01(K\x02e.",
    "an item that cannot be a key": b"}(]K\x01u.",
    "a key nested a hundred thousand deep": b"})" + b"\x85" * 100_000 + b"K\x01s.",
    "a member nested a hundred thousand deep": b"\x80\x04\x8f()" + b"\x85" * 100_000 + b"\x90.",
    "bytes that are not there": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 50) + b"x.",
    "a frame that is not there": b"\x80\x04\x95" + struct.pack("<Q", 1 << 50) + b"N",
    "a memo of a thousand million": b"\x80\x02j" + struct.pack("<I", 1 << 30) + b".",
    "a number of a million digits": b"I" + b"9" * 1_000_000 + b"\n.",
    "no end": b"\x80\x02]",
    "two values": b"NN.",
    "an open mark": b"N(.",
    "no value": b".",
    "no such opcode": b"\xff.",
    "more popped than pushed": b"00.",
    "a recursive list": b"]q\x00h\x00a0N0(t.",
}


@pytest.fixture
def peak():
    """Tells the most memory that Python held since the test began, bytes."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


@pytest.mark.parametrize("name", RAW)
def test_raw_opcodes_are_refused_without_allocating(name, tmp_path, peak):
    (tmp_path / "evil.pkl").write_bytes(RAW[name])
    with pytest.raises((UnsafeModelError, ModelIntegrityError)):
        read_nvidia_pickle(tmp_path / "evil.pkl")
    assert peak() < 30_000_000


def test_a_put_far_out_costs_nothing(peak):
    assert read_pickle(io.BytesIO(b"Nr" + struct.pack("<I", (1 << 32) - 1) + b"."), ALLOWED) is None
    assert peak() < 1_000_000


def test_code_within_a_storage_is_refused(tmp_path, monkeypatch):
    generator = small_generator()
    path = as_torch(tmp_path / "g.pkl", generator, monkeypatch)
    honest = path.read_bytes()
    start = honest.index(b"FloatStorage") - len("ctorch\n")
    assert honest[start : start + 7] == b"ctorch\n"
    path.write_bytes(honest[:start] + b"cposix\nsystem #####" + honest[start + 19 :])
    with pytest.raises(UnsafeModelError, match="system"):
        read_nvidia_pickle(path)


@pytest.mark.parametrize("size", [(1 << 20, 1 << 20), (8, 9), (1 << 62,)])
def test_a_tensor_beyond_its_storage_is_refused(size, tmp_path, monkeypatch):
    tensor = torch.zeros(8)

    def bigger():
        _, (storage, offset, *_) = tensor.__reduce_ex__(2)
        return torch._utils._rebuild_tensor_v2, (storage, offset, size, (0,) * len(size), False, None)

    generator = small_generator()
    path = tmp_path / "g.pkl"
    original = torch.nn.Parameter.__reduce_ex__

    with monkeypatch.context() as patch:
        patch.setattr(
            torch.nn.Parameter, "__reduce_ex__",
            lambda self, protocol: bigger() if self.numel() == 3 else original(self, protocol),
        )  # fmt: skip
        as_torch(path, generator, monkeypatch)
    with pytest.raises(UnsafeModelError, match="beyond"):
        read_nvidia_pickle(path)


def test_an_array_of_another_size_than_its_bytes_is_refused(tmp_path, monkeypatch):
    generator = small_generator()
    path = as_tensorflow(tmp_path / "g.pkl", generator, monkeypatch)
    content = path.read_bytes()
    changed = content.replace(b"(K\x01K\x08K\x04K\x04t", b"(K\x01K\xffK\xffK\xfft")
    assert changed != content  # the constant is (1, 8, 4, 4)
    path.write_bytes(changed)
    with pytest.raises(UnsafeModelError, match="shape"):
        read_nvidia_pickle(path)


def test_arrays_of_objects_are_refused(tmp_path, monkeypatch):
    objects = [("synthesis/4x4/Const/const", np.array([None], dtype=object))]
    path = as_tensorflow(tmp_path / "g.pkl", small_generator(), monkeypatch, variables=objects)
    with pytest.raises(UnsafeModelError, match="no numbers"):
        read_nvidia_pickle(path)


def test_the_same_numbers_over_and_over_are_refused(tmp_path, monkeypatch):
    many = np.zeros(50_000, np.float32)
    path = as_tensorflow(
        tmp_path / "g.pkl", small_generator(), monkeypatch, variables=[(f"v{i}", many) for i in range(5000)]
    )
    tracemalloc.start()
    with pytest.raises(UnsafeModelError, match="more numbers"):
        read_nvidia_pickle(path)
    assert tracemalloc.get_traced_memory()[1] < 30_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("content", [{"G_ema": {}}, {"G_ema": [1]}, (1, 2, 3), "text", [], {"a": 1}, ()])
def test_a_pickle_of_something_else_is_no_generator(content, tmp_path):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises((ModelIntegrityError, UnsafeModelError)):
        read_nvidia_pickle(tmp_path / "x.pkl")


def test_an_empty_or_missing_file_is_refused(tmp_path):
    (tmp_path / "empty.pkl").touch()
    with pytest.raises(ModelIntegrityError):
        read_nvidia_pickle(tmp_path / "empty.pkl")
    with pytest.raises(ModelIntegrityError):
        read_nvidia_pickle(tmp_path / "none.pkl")


def test_labels_and_other_kernels_are_refused(tmp_path, monkeypatch):
    generator = small_generator()
    labelled = [("mapping/LabelConcat/weight", np.zeros((1, 2), np.float32))]
    path = as_tensorflow(tmp_path / "g.pkl", generator, monkeypatch, variables=labelled)
    with pytest.raises(ModelIntegrityError, match="labels"):
        read_nvidia_pickle(path)
    path = as_tensorflow(
        tmp_path / "g.pkl", generator, monkeypatch, static_kwargs={"resample_kernel": [1, 2, 1]}
    )
    with pytest.raises(ModelIntegrityError, match="resample"):
        read_nvidia_pickle(path)
    path = as_tensorflow(tmp_path / "g.pkl", generator, monkeypatch, components={})
    with pytest.raises(ModelIntegrityError, match="missing"):
        read_nvidia_pickle(path)


@pytest.mark.parametrize(
    ("source", "target"), [("g.onnx", "g.safetensors"), ("g.pkl", "g.pt"), ("none.pkl", "g.safetensors")]
)
def test_other_kinds_of_file_are_wrong_usage(source, target, tmp_path):
    if not source.startswith("none"):
        Path(tmp_path / source).write_bytes(pickle.dumps(1))
    with pytest.raises(ConfigurationError):
        convert_model(tmp_path / source, tmp_path / target)


def test_what_is_allowed_is_a_short_list_of_names():
    assert Global("os", "system") not in ALLOWED
    assert not {g.name for g in ALLOWED} & {"eval", "exec", "getattr", "open", "__import__", "load", "loads"}
