from __future__ import annotations

import hashlib
import pickle
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from safetensors.torch import save_file

from service.appraisal.model_files.models import (
    SHIPPED_WEIGHTS_DIR,
    ModelEntry,
    ModelState,
    ModelStore,
    load_tensors,
    read_manifest,
)
from service.errors import ConfigurationError, ModelIntegrityError, ModelNotFoundError


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "source" / "tiny.safetensors"
    path.parent.mkdir()
    save_file({"a": torch.ones(3, dtype=torch.float16), "n": torch.arange(2)}, path)
    return path


def _entry(path, url="", **changes):
    values = {
        "id": "tiny",
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "licence": "CC0-1.0",
        "intended_use": "tests",
        "line": "external",
        "url": url,
    }
    return ModelEntry(**(values | changes))


def _store(entry, model_dir, shipped):
    return ModelStore(model_dir, manifest={entry.id: entry}, shipped_dir=shipped)


@pytest.fixture
def served(weights):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = weights.read_bytes() if self.path == "/tiny" else b"something else"
            self.send_response(404 if self.path == "/gone" else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_manifest_is_well_formed_and_shipped_files_match_it():
    store = ModelStore()
    for status in store.status():
        assert status.entry.licence
        assert status.entry.intended_use
        if status.entry.line in ("shipped", "research"):
            assert status.state is ModelState.PRESENT, status.entry.id
    listed = {entry.file for entry in read_manifest().values()}
    assert {p.name for p in SHIPPED_WEIGHTS_DIR.glob("*.safetensors")} <= listed


def test_shipped_weights_come_before_the_directory(weights, tmp_path):
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    (shipped / weights.name).write_bytes(weights.read_bytes())
    store = _store(_entry(weights), weights.parent, shipped)
    assert store.path("tiny").parent == shipped
    (shipped / weights.name).unlink()
    assert store.path("tiny") == weights


def test_tensors_come_as_float32(weights, tmp_path):
    tensors = _store(_entry(weights), weights.parent, tmp_path).tensors("tiny")
    assert tensors["a"].dtype == torch.float32
    assert tensors["n"].dtype == torch.int64


def test_a_missing_and_an_unknown_model_are_named(weights, tmp_path):
    store = _store(_entry(weights), None, tmp_path)
    with pytest.raises(ModelNotFoundError, match="tiny"):
        store.path("tiny")
    with pytest.raises(ModelNotFoundError, match="other"):
        store.path("other")
    assert store.status()[0].state is ModelState.MISSING


def test_a_changed_file_is_refused(weights, tmp_path):
    store = _store(_entry(weights), weights.parent, tmp_path)
    store.path("tiny")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelIntegrityError):
        store.path("tiny")
    assert store.status()[0].state is ModelState.CORRUPT


def test_the_hash_of_several_models_depends_on_all_and_their_order(weights, tmp_path):
    one, two = _entry(weights), _entry(weights, id="two", sha256="0" * 64)
    store = ModelStore(manifest={"tiny": one, "two": two}, shipped_dir=tmp_path)
    assert store.sha256([]) == ""
    assert store.sha256(["tiny"]) == one.sha256
    assert len({store.sha256(ids) for ids in (["tiny"], ["tiny", "two"], ["two", "tiny"])}) == 3


class _Harmful:
    def __reduce__(self):
        return (print, ("code ran",))


@pytest.mark.parametrize("kind", ["code", "torch-code", "list", "rubbish", "bad-safetensors"])
def test_files_that_are_no_plain_tensors_are_refused(tmp_path, kind, capsys):
    path = tmp_path / ("model.safetensors" if kind == "bad-safetensors" else "model.pt")
    if kind == "code":
        path.write_bytes(pickle.dumps(_Harmful()))
    elif kind == "torch-code":
        torch.save({"a": _Harmful()}, path)
    elif kind == "list":
        torch.save([torch.ones(2)], path)
    else:
        path.write_bytes(b"rubbish" * 10)
    with pytest.raises(ModelIntegrityError):
        load_tensors(path)
    assert "code ran" not in capsys.readouterr().out


def test_a_torch_file_of_tensors_is_read(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "model.pt")
    assert torch.equal(load_tensors(tmp_path / "model.pt")["a"], torch.ones(2))


def test_pull_fetches_verifies_and_keeps(weights, tmp_path, served):
    target = tmp_path / "models"
    seen = []
    store = _store(_entry(weights, f"{served}/tiny"), target, tmp_path)
    path = store.pull("tiny", lambda done, total: seen.append((done, total)))
    assert path == target / "tiny.safetensors"
    assert path.read_bytes() == weights.read_bytes()
    assert seen[-1] == (path.stat().st_size,) * 2
    assert store.path("tiny") == store.pull("tiny") == path


@pytest.mark.parametrize(
    ("address", "error"), [("/wrong", ModelIntegrityError), ("/gone", ModelNotFoundError)]
)
def test_what_is_not_the_model_is_not_kept(weights, tmp_path, served, address, error):
    target = tmp_path / "models"
    with pytest.raises(error):
        _store(_entry(weights, served + address), target, tmp_path).pull("tiny")
    assert list(target.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "directory", "error"),
    [
        ("", True, ModelNotFoundError),
        ("http://example.org/tiny", True, ModelNotFoundError),
        ("https://127.0.0.1:1/tiny", True, ModelNotFoundError),
        ("https://127.0.0.1:1/tiny", False, ConfigurationError),
    ],
)
def test_pull_says_why_it_cannot(weights, tmp_path, url, directory, error):
    store = _store(_entry(weights, url), tmp_path / "models" if directory else None, tmp_path)
    with pytest.raises(error):
        store.pull("tiny")


_ROW = 'sha256="' + "0" * 64 + '"\nlicence=""\nintended_use=""\nline="external"\n'


@pytest.mark.parametrize(
    "text",
    [
        "not toml = = =",
        '[[model]]\nid = "a"\n',
        '[[model]]\nid="a"\nfile="../a"\nsha256="'
        + "0" * 64
        + '"\nlicence=""\nintended_use=""\nline="external"\n',
        2
        * (
            '[[model]]\nid="a"\nfile="a"\nsha256="'
            + "0" * 64
            + '"\nlicence=""\nintended_use=""\nline="external"\n'
        ),
    ],
)
def test_a_bad_manifest_is_refused(tmp_path, text):
    path = tmp_path / "manifest.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError):
        read_manifest(path)
