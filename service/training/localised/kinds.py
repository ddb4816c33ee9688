"""How well the fused evidence tells kinds of anomaly that its calibration has not seen.

Each kind of the random family is held out in turn: the fusion is fitted to the others, and to half of the
faces, and judges the held-out kind on the other half. The network has seen all of them; what kinds that
nobody trained on come to is what ``semblance benchmark`` tells, by the named types.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np

from service.appraisal.methods.localised.explicit import ExplicitMeasures
from service.appraisal.methods.localised.fusion import Fusion
from service.appraisal.methods.localised.shape import Shape
from service.errors import ConfigurationError
from service.evaluation.benchmark.measures import auroc
from service.training.localised.calibrate import Sample, fit

_HALVES = 2


@dataclass(frozen=True, kw_only=True)
class HeldOutKind:
    """AUROC of one kind of anomaly against shams, of faces the fusion was not fitted to."""

    kind: str
    images: int  # of the kind
    seen: float  # where the kind was among those fitted to
    unseen: float  # where it was not


def leave_one_kind_out(
    samples: Sequence[Sample], shape: Shape, explicit: ExplicitMeasures
) -> tuple[HeldOutKind, ...]:
    """Hold out each kind in turn; figures are means over both halves of the faces.

    Args:
        samples: as ``calibrate.collect`` gives them.
        shape: predictions of the measures.
        explicit: measures.

    Raises:
        ConfigurationError: fewer than two kinds or two faces.
    """
    kinds = sorted({sample.kind for sample in samples if sample.severity > 0})
    if len(kinds) < 2 or len({sample.face for sample in samples}) < _HALVES:
        raise ConfigurationError("kinds are held out in turn of two kinds and two faces at least")
    seen: dict[str, list[float]] = {kind: [] for kind in kinds}
    unseen: dict[str, list[float]] = {kind: [] for kind in kinds}
    for half in range(_HALVES):
        fitted = [sample for sample in samples if sample.face % _HALVES != half]
        judged = [sample for sample in samples if sample.face % _HALVES == half]
        with_all = fit(fitted, shape, explicit)
        for kind in kinds:
            without = fit([sample for sample in fitted if sample.kind != kind], shape, explicit)
            seen[kind].append(_told(with_all, judged, kind))
            unseen[kind].append(_told(without, judged, kind))
    return tuple(
        HeldOutKind(
            kind=kind,
            images=sum(sample.kind == kind for sample in samples),
            seen=float(np.nanmean(seen[kind])),
            unseen=float(np.nanmean(unseen[kind])),
        )
        for kind in kinds
    )


def _told(fusion: Fusion, judged: Sequence[Sample], kind: str) -> float:
    clean = np.array([fusion.total(sample.seen) for sample in judged if sample.severity == 0])
    return auroc(clean, np.array([fusion.total(sample.seen) for sample in judged if sample.kind == kind]))


def write_kinds(found: Sequence[HeldOutKind], path: Path) -> Path:
    """Write the figures as CSV, and return the path."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(HeldOutKind)])
        writer.writerows([round(v, 4) if isinstance(v, float) else v for v in astuple(one)] for one in found)
    return path
