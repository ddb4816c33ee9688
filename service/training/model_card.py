"""The model card and the manifest of a directory of weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from service.appraisal.model_files.models import MANIFEST_PATH, ModelEntry, read_manifest

_CARD = (
    "# Model card: {names} (line `{line}`)\n\n| | |\n|---|---|\n"
    "| What | The default method's anomaly network, its fusion and its calibration `{calibration}` "
    "(docs/method.md of Semblance) |\n"
    "| Made from | {basis} |\n"
    "| Intended use | Decision support at the site whose photographs these are. Not a diagnosis, not for "
    "identification. |\n"
    "| Licence | {licence} |\n"
    "| SHA-256 of network and fusion together | `{weights_sha256}` |\n"
    "| Figures | AUROC {auroc:.2f} of random synthetic anomalies of severity .5 and more against "
    "sham-resampled faces, on the same {faces} faces it was calibrated on (so optimistic). `semblance "
    "benchmark` measures it on others. |\n"
    "| Limits | Synthetic validity only: never compared with human raters; `semblance validate` does that "
    "with the site's own ratings. It stands for the cameras, ages and skin tones of the photographs it was "
    "made from, and no others. |\n"
)


def card(
    *,
    entries: Sequence[ModelEntry],
    calibration: str,
    basis: str,
    weights_sha256: str,
    auroc: float,
    faces: int,
) -> str:
    """The card as Markdown.

    Args:
        entries: rows of the manifest that it is of.
        calibration: its version.
        basis: what it was made from, in a sentence.
        weights_sha256: of the weights together.
        auroc: on the calibration faces.
        faces: how many of them.
    """
    return _CARD.format(
        names=", ".join(entry.id for entry in entries),
        line=entries[0].line,
        calibration=calibration,
        basis=basis,
        licence=entries[0].licence,
        weights_sha256=weights_sha256,
        auroc=auroc,
        faces=faces,
    )


def entry_of(model_id: str, path: Path, *, line: str, licence: str, intended_use: str) -> ModelEntry:
    """The manifest row of a file that is there."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return ModelEntry(
        id=model_id, file=path.name, sha256=digest, licence=licence, intended_use=intended_use, line=line
    )


def as_toml(entries: Sequence[ModelEntry]) -> str:
    """Rows of a manifest; JSON's strings are TOML's."""
    return "\n".join(
        "[[model]]\n"
        + "".join(
            f"{field.name} = {json.dumps(getattr(entry, field.name), ensure_ascii=False)}\n"
            for field in fields(entry)
            if getattr(entry, field.name)
        )
        for entry in entries
    )


def put_rows(entries: Sequence[ModelEntry], directory: Path) -> Path:
    """Put rows into a directory's manifest, at once, beside those of other models.

    Returns:
        The path of the manifest.

    Raises:
        ConfigurationError: there is one already that cannot be read.
    """
    path = directory / MANIFEST_PATH.name
    others = read_manifest(path) if path.exists() else {}
    ours = {entry.id for entry in entries}
    rows = [*(entry for entry in others.values() if entry.id not in ours), *entries]
    partial = path.with_suffix(".part")
    partial.write_text(as_toml(rows), encoding="utf-8")
    return partial.replace(path)
