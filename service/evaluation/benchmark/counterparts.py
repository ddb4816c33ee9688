"""How much of a synthetic anomaly a method's normal counterpart takes back, and what else it changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from service.appraisal.face.alignment import warp
from service.evaluation.benchmark.studies import Cell, StudyTable, figure_of
from service.evaluation.benchmark.summary import ALL_TYPES, CLEAN, STRONG
from service.evaluation.benchmark.trial import Sheet

FULL = 1.0  # severity
BESIDE = 0.04  # of the square's side around what was changed, that is neither inside nor outside
WORSE = -0.02  # removed, from which on downwards the counterpart is farther from the clean face than the face
COLUMNS = ("removed_half", "removed_full", "changed_half", "changed_full", "worse_full", "outside_full")


@dataclass(frozen=True, kw_only=True)
class _Drawing:
    """One counterpart."""

    subject: str
    kind: str  # "sham" or the anomaly type
    severity: float
    removed: float  # of the difference from the clean face, inside the mask; NaN for a sham
    changed: bool  # whether it differs from the face at all
    outside: float  # mean difference from the face outside the mask, grey levels


class CounterpartStudy:
    """Collects, from the images of a trial, how near each counterpart is to the clean face."""

    def __init__(self) -> None:
        self._clean: dict[str, npt.NDArray[np.uint8]] = {}
        self._drawings: list[_Drawing] = []

    @property
    def empty(self) -> bool:
        """True while no image came with a counterpart."""
        return not self._drawings

    def see(self, sheet: Sheet) -> None:
        """Take one image; of each subject the sham comes first."""
        who = sheet.subject.identity
        if sheet.kind == "sham":
            self._clean = {who: sheet.rendered.image}
        maps = sheet.judged.appraised.maps if sheet.judged.appraised is not None else None
        if maps is None or who not in self._clean:
            return
        face, size = maps.face, maps.face.size
        if face.photograph.rgb.shape != sheet.rendered.image.shape:  # turned or reduced: in other pixels
            return
        drawn, seen = maps.normalised.astype(np.float64), maps.judged.rgb.astype(np.float64)
        mask = cv2.warpAffine(
            sheet.rendered.mask.astype(np.uint8), face.matrix, (size, size), flags=cv2.INTER_NEAREST
        )
        beside = max(3, round(BESIDE * size)) | 1
        far = cv2.dilate(mask, np.ones((beside, beside), np.uint8)) == 0
        away = np.abs(drawn - seen)
        removed = float("nan")
        if mask.any():
            clean = warp(self._clean[who], face.matrix, (size, size), fine=True)[0].astype(np.float64)
            before = float(np.abs(seen - clean)[mask > 0].sum())
            removed = 1 - float(np.abs(drawn - clean)[mask > 0].sum()) / before if before else removed
        self._drawings.append(
            _Drawing(
                subject=who,
                kind=sheet.kind,
                severity=sheet.severity,
                removed=removed,
                changed=bool(away.any()),
                outside=float(away[far].mean()) if far.any() else float("nan"),
            )
        )

    def tables(self, *, repeats: int) -> tuple[StudyTable, ...]:
        """What counterparts take back, by type."""
        kinds = dict.fromkeys(each.kind for each in self._drawings if each.severity > 0)
        rows = [(CLEAN, self._clean_row(repeats))]
        rows += [(kind, self._row(kind, repeats)) for kind in (ALL_TYPES, *kinds)]
        return (
            StudyTable(
                name="counterparts",
                title="What the normal counterpart takes back",
                note=(
                    "Removed: 1 - |counterpart - clean face| / |anomalous face - clean face|, inside "
                    f"its mask, mean over images, at severity {STRONG:g} (half) and {FULL:g} (full). "
                    "Changed: counterparts that differ from the face at all. Worse: farther from the clean "
                    "face than the anomalous one. Outside: mean change away from the mask, grey levels. "
                    "Clean: sham-resampled faces."
                ),
                columns=COLUMNS,
                rows=tuple(rows),
            ),
        )

    def _clean_row(self, repeats: int) -> tuple[Cell, ...]:
        shams = [each for each in self._drawings if each.kind == "sham"]
        changed = _figure(shams, lambda some: _mean([each.changed for each in some]), repeats)
        outside = _figure(shams, lambda some: _mean([each.outside for each in some]), repeats)
        return (None, None, changed, changed, None, outside)

    def _row(self, kind: str, repeats: int) -> tuple[Cell, ...]:
        own = [each for each in self._drawings if each.severity > 0 and kind in {ALL_TYPES, each.kind}]
        half = [each for each in own if each.severity == STRONG]
        full = [each for each in own if each.severity == FULL]
        return (
            _figure(half, lambda some: _mean([each.removed for each in some]), repeats),
            _figure(full, lambda some: _mean([each.removed for each in some]), repeats),
            _figure(half, lambda some: _mean([each.changed for each in some]), repeats),
            _figure(full, lambda some: _mean([each.changed for each in some]), repeats),
            _figure(full, lambda some: _mean([each.removed < WORSE for each in some]), repeats),
            _figure(full, lambda some: _mean([each.outside for each in some]), repeats),
        )


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _figure(drawings: Sequence[_Drawing], of: Callable[[Sequence[_Drawing]], float], repeats: int) -> Cell:
    """A figure of counterparts, with its interval over subjects."""
    own: dict[str, list[_Drawing]] = defaultdict(list)
    for each in drawings:
        own[each.subject].append(each)
    groups = list(own.values())
    if not groups:
        return None
    return figure_of(
        len(groups), lambda rows: of([each for row in rows for each in groups[row]]), repeats=repeats
    )
