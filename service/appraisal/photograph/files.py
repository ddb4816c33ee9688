"""Which files of a folder are photographs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".heic", ".heif", ".avif", ".dcm"}
)
_PREAMBLE_BYTES, _DICM = 128, b"DICM"  # PS3.10 section 7.1


@dataclass(frozen=True, kw_only=True)
class FolderContent:
    """The files of a folder and its subfolders, each list in a fixed order."""

    photographs: tuple[Path, ...]  # by their names, or DICOM by its preamble
    others: tuple[Path, ...]  # what is passed over: whoever reads a folder names it


def content_of(folder: Path) -> FolderContent:
    """Tell the photographs of a folder from its other files.

    Raises:
        OSError: A file without a known suffix cannot be opened.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    photographs = tuple(path for path in files if path.suffix.lower() in SUFFIXES or _is_dicom(path))
    taken = set(photographs)
    return FolderContent(photographs=photographs, others=tuple(path for path in files if path not in taken))


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(_PREAMBLE_BYTES + len(_DICM))[_PREAMBLE_BYTES:] == _DICM
