"""The model store: which model files there are, where they are, and that they are what they say.

A file is looked for in the weights shipped with the package, then in a model directory, and is
used only when its SHA-256 is the manifest's. Rows of line "site" in the directory's own manifest
stand in for the product's: so a hospital's weights take the place of those shipped.
`pull` fetches a file from its URL into the directory.
Loading never runs code from a file: safetensors, `torch.load(weights_only=True)`, or numbers
read from a `.tflite`. Pickles that need code go through `semblance models convert`.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import tempfile
import tomllib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from service.errors import ConfigurationError, ModelIntegrityError, ModelNotFoundError, StorageError

if TYPE_CHECKING:
    import torch

_PACKAGE = Path(__file__).resolve().parents[2]  # service
MANIFEST_PATH = _PACKAGE / "models_manifest.toml"
SHIPPED_WEIGHTS_DIR = _PACKAGE / "weights"
SITE_LINE = "site"
# Models that no manifest of the product has, and how one comes by them.
BROUGHT: Mapping[str, str] = {
    "patchcore-squeezenet": "`semblance train patchcore --data FACES --out DIR` fits one; then "
    "SEMBLANCE_MODEL_DIR=DIR",
    "stylegan2-face": "bring a generator of your own, as docs/method-paper-000.md tells",
}
_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 60.0
_HASH_DIGITS, _LEAST_DIGITS = 64, 8
_UNPICKLING_ERRORS = (
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """One row of the manifest."""

    id: str  # what methods ask for
    file: str  # name in a directory
    sha256: str  # lower-case hexadecimal, of the file; or its first digits, where no more is published
    licence: str  # SPDX identifier or plain words
    intended_use: str
    line: str  # "shipped", "research" (not for commercial use), "site" or "external"
    url: str = ""  # where it comes from; "" when it is only found in directories


class ModelState(StrEnum):
    """What the store found for a row."""

    PRESENT = "present"
    MISSING = "missing"
    CORRUPT = "corrupt"


@dataclass(frozen=True, kw_only=True)
class ModelStatus:
    """A row of the manifest with what was found."""

    entry: ModelEntry
    state: ModelState
    path: Path | None  # of the file found, right or wrong


def read_manifest(path: Path = MANIFEST_PATH) -> Mapping[str, ModelEntry]:
    """Read a manifest.

    Raises:
        ConfigurationError: Unreadable, a field missing or unknown, or an id twice.
    """
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8")).get("model", [])
        entries = [ModelEntry(**row) for row in rows]
    except (OSError, tomllib.TOMLDecodeError, TypeError) as exc:
        raise ConfigurationError(f"model manifest {path}: {exc}") from exc
    table = {entry.id: entry for entry in entries}
    if len(table) != len(entries):
        raise ConfigurationError(f"model manifest {path}: an id appears twice")
    for entry in entries:
        if Path(entry.file).name != entry.file or not _LEAST_DIGITS <= len(entry.sha256) <= _HASH_DIGITS:
            raise ConfigurationError(f"model manifest {path}: {entry.id}: bad file name or SHA-256")
    return table


def _directory_manifest(model_dir: Path | None) -> Mapping[str, ModelEntry]:
    """The rows of the directory's own manifest; one of line "site" may have the id of a product's."""
    own = (model_dir / MANIFEST_PATH.name) if model_dir else None
    if own is None or not own.is_file():
        return {}
    added = read_manifest(own)
    for model_id in sorted(set(read_manifest()) & set(added)):
        if added[model_id].line != SITE_LINE:
            raise ConfigurationError(
                f"model manifest {own}: {model_id} is the product's own; only line {SITE_LINE!r} replaces it"
            )
    return added


class ModelStore:
    """Finds, verifies, fetches and loads model files."""

    def __init__(
        self,
        model_dir: Path | None = None,
        *,
        manifest: Mapping[str, ModelEntry] | None = None,
        shipped_dir: Path = SHIPPED_WEIGHTS_DIR,
    ) -> None:
        added = _directory_manifest(model_dir) if manifest is None else {}
        self._manifest = {**read_manifest(), **added} if manifest is None else manifest
        self._of_site = frozenset(model_id for model_id, entry in added.items() if entry.line == SITE_LINE)
        self._model_dir = model_dir
        self._directories: Sequence[Path] = (shipped_dir, *((model_dir,) if model_dir else ()))
        self._verified: dict[tuple[Path, int, int], str] = {}

    def of_site(self, model_id: str) -> bool:
        """Whether the directory's manifest puts the site's own file in this place."""
        return model_id in self._of_site

    def ids(self, prefix: str) -> tuple[str, ...]:
        """Return the ids of the manifest's rows that begin so."""
        return tuple(model_id for model_id in self._manifest if model_id.startswith(prefix))

    def entry(self, model_id: str) -> ModelEntry:
        """Return a row of the manifest.

        Raises:
            ModelNotFoundError: No such row.
        """
        try:
            return self._manifest[model_id]
        except KeyError as exc:
            hint = f"; {BROUGHT[model_id]}" if model_id in BROUGHT else ""
            raise ModelNotFoundError(f"no model {model_id!r} in the manifest{hint}") from exc

    def path(self, model_id: str) -> Path:
        """Return the path of a verified file.

        Raises:
            ModelNotFoundError: Not in the manifest, or in none of the directories.
            ModelIntegrityError: Found, but with another SHA-256.
        """
        entry = self.entry(model_id)
        directories = self._directories_of(entry)
        for directory in directories:
            path = directory / entry.file
            if path.is_file():
                self._verify(entry, path)
                return path
        places = ", ".join(str(directory) for directory in directories)
        hint = "`semblance models pull` fetches it" if entry.url else "put it there (SEMBLANCE_MODEL_DIR)"
        raise ModelNotFoundError(f"model {model_id!r}: no {entry.file} in {places}; {hint}")

    def _directories_of(self, entry: ModelEntry) -> Sequence[Path]:
        """Where a file may lie; a site's own never among those shipped, which may have its name."""
        return self._directories[1:] if self.of_site(entry.id) else self._directories

    def sha256(self, model_ids: Sequence[str]) -> str:
        """Return one hash over the weights of several models in that order; "" for none.

        Raises:
            ModelNotFoundError: A model is not in the manifest, or only its file tells its whole hash
                and that is not there.
        """
        if not model_ids:
            return ""
        hashes = [self._whole_hash(self.entry(model_id)) for model_id in model_ids]
        return hashes[0] if len(hashes) == 1 else hashlib.sha256(":".join(hashes).encode()).hexdigest()

    def _whole_hash(self, entry: ModelEntry) -> str:
        return entry.sha256 if len(entry.sha256) == _HASH_DIGITS else self._hash(self.path(entry.id))

    def status(self) -> tuple[ModelStatus, ...]:
        """Say for every row whether its file is there and right."""
        return tuple(self._status(entry) for entry in self._manifest.values())

    def tensors(self, model_id: str, key: str = "") -> dict[str, torch.Tensor]:
        """Load a model's tensors on the CPU, floating ones as float32.

        Args:
            model_id: Id in the manifest.
            key: Where in a `torch.save`d checkpoint they are; "" when they are the whole.

        Raises:
            ModelNotFoundError: Not there.
            ModelIntegrityError: Wrong SHA-256, or not a plain file of tensors.
        """
        import torch

        loaded = load_tensors(self.path(model_id), key)
        return {name: t.to(torch.float32) if t.is_floating_point() else t for name, t in loaded.items()}

    def pull(self, model_id: str, progress: Callable[[int, int], None] = lambda done, total: None) -> Path:
        """Fetch a model from its URL into the model directory, unless it is there already.

        Args:
            model_id: Id in the manifest.
            progress: Called with bytes done and bytes in all (0 when not announced).

        Raises:
            ConfigurationError: There is no model directory to put it in.
            ModelNotFoundError: No such model, no URL, or the URL does not answer.
            ModelIntegrityError: What came has another SHA-256; it is not kept.
            StorageError: The file cannot be written.
        """
        entry = self.entry(model_id)
        status = self._status(entry)
        if status.state is ModelState.PRESENT and status.path is not None:
            return status.path
        if not entry.url:
            raise ModelNotFoundError(
                f"model {model_id!r} has no URL; put {entry.file} into SEMBLANCE_MODEL_DIR"
            )
        if self._model_dir is None:
            raise ConfigurationError("SEMBLANCE_MODEL_DIR names no directory to put models in")
        return self._fetch(entry, self._model_dir, progress)

    def _fetch(self, entry: ModelEntry, directory: Path, progress: Callable[[int, int], None]) -> Path:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=directory, prefix=f".{entry.file}.")
        except OSError as exc:
            raise StorageError(f"{directory}: {exc}") from exc
        part = Path(name)
        try:
            with os.fdopen(handle, "wb") as out:
                _download(entry, out.write, progress)
            self._verify(entry, part)
            part.chmod(0o644)
            return part.replace(directory / entry.file)
        except OSError as exc:
            raise StorageError(f"{directory}: {exc}") from exc
        finally:
            part.unlink(missing_ok=True)

    def _status(self, entry: ModelEntry) -> ModelStatus:
        for directory in self._directories_of(entry):
            path = directory / entry.file
            if path.is_file():
                state = (
                    ModelState.PRESENT if self._hash(path).startswith(entry.sha256) else ModelState.CORRUPT
                )
                return ModelStatus(entry=entry, state=state, path=path)
        return ModelStatus(entry=entry, state=ModelState.MISSING, path=None)

    def _verify(self, entry: ModelEntry, path: Path) -> None:
        found = self._hash(path)
        if not found.startswith(entry.sha256):
            raise ModelIntegrityError(f"{path}: SHA-256 is {found}, the manifest says {entry.sha256}")

    def _hash(self, path: Path) -> str:
        stat = path.stat()
        key = (path, stat.st_mtime_ns, stat.st_size)
        if key not in self._verified:
            with path.open("rb") as file:
                self._verified[key] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._verified[key]


def load_tensors(path: Path, key: str = "") -> dict[str, torch.Tensor]:
    """Load a flat file of tensors without running code from it.

    Args:
        path: A `.safetensors` file, a `torch.save`d mapping of names to tensors, or MobileNetV2 as
            `.tflite`.
        key: Where in a `torch.save`d checkpoint the mapping is; "" when it is the whole.
            Without meaning for safetensors.

    Raises:
        ModelIntegrityError: The file is none of these, or is a pickle that needs code.
        UnsafeModelError: A damaged `.tflite`.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from service.appraisal.model_files.mobilenet_tflite import load_mobilenet

    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        if path.suffix == ".tflite":
            return load_mobilenet(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a foreign pickle protocol is said to be one before it fails
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, *_UNPICKLING_ERRORS) as exc:
        raise ModelIntegrityError(f"{path}: not a plain file of tensors: {exc}") from exc
    if key and isinstance(loaded, dict):
        loaded = loaded.get(key)
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise ModelIntegrityError(f"{path}: not a mapping of names to tensors")
    return {str(name): value for name, value in loaded.items()}


def _download(entry: ModelEntry, write: Callable[[bytes], int], progress: Callable[[int, int], None]) -> None:
    if not entry.url.startswith("https://") and not entry.url.startswith("http://127.0.0.1"):
        raise ModelNotFoundError(f"model {entry.id!r}: {entry.url} is not an https URL")
    try:
        with httpx.stream("GET", entry.url, follow_redirects=True, timeout=_TIMEOUT_S) as response:
            response.raise_for_status()
            total, done = int(response.headers.get("content-length", 0)), 0
            for chunk in response.iter_bytes(_CHUNK_BYTES):
                write(chunk)
                done += len(chunk)
                progress(done, total)
    except httpx.HTTPError as exc:
        raise ModelNotFoundError(f"model {entry.id!r}: {entry.url}: {exc}") from exc
