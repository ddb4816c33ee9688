"""What each evidence of the default method's fusion tells alone, and what is lost without it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from service.appraisal.methods.localised.counterpart.normaliser import Drawn
from service.appraisal.methods.localised.fusion import EVIDENCE, Fusion
from service.appraisal.methods.localised.localisation import face_reading
from service.evaluation.benchmark.measures import auroc
from service.evaluation.benchmark.studies import Cell, StudyTable, figure_of
from service.evaluation.benchmark.summary import STRONG, SUBTLE
from service.evaluation.benchmark.trial import Sheet

FUSED = "fused"
Floats = npt.NDArray[np.float64]


class AblationStudy:
    """Collects, from the images of a trial, the evidence the fusion weighs."""

    def __init__(self, fusion: Fusion) -> None:
        self._fusion = fusion
        self._features: dict[str, list[Floats]] = defaultdict(list)  # by subject
        self._truths: dict[str, list[tuple[str, float]]] = defaultdict(list)  # kind and severity

    @property
    def empty(self) -> bool:
        """True while no image came with a reading."""
        return not self._features

    def see(self, sheet: Sheet) -> None:
        """Take one image."""
        maps = sheet.judged.appraised.maps if sheet.judged.appraised is not None else None
        if maps is None or not isinstance(maps.counterpart, Drawn):
            return
        seen = face_reading(maps.face, maps.counterpart.reading, maps.counterpart.drawing.redness)
        self._features[sheet.subject.identity].append(self._fusion.evidence(seen))
        self._truths[sheet.subject.identity].append((sheet.kind, sheet.severity))

    def tables(self, *, repeats: int) -> tuple[StudyTable, StudyTable]:
        """AUROC of every evidence, of the fusion and of the fusion without it; and by type."""
        values = self._values()
        kinds = tuple(
            dict.fromkeys(kind for some in self._truths.values() for kind, _ in some if kind != "sham")
        )
        alone = StudyTable(
            name="ablations",
            title="What each evidence contributes",
            note=(
                f"AUROC of anomalies of severity {STRONG:g} and more ({SUBTLE:g}: subtle) against "
                "sham-resampled faces. Without: the fusion with that evidence's weight at nothing and the "
                "others as they are; lost: how much lower that is than the fusion, on the same resampled "
                "subjects."
            ),
            columns=("alone_strong", "alone_subtle", "without_strong", "lost_strong", "lost_subtle"),
            rows=tuple((name, self._row(values, name, repeats)) for name in (*EVIDENCE, FUSED)),
        )
        by_type = StudyTable(
            name="evidence_by_type",
            title="What each evidence tells of each type",
            note=f"AUROC of one evidence alone, severity {STRONG:g} and more against sham.",
            columns=kinds,
            rows=tuple(
                (name, tuple(self._alone(values[name], repeats, _strong, kind) for kind in kinds))
                for name in (*EVIDENCE, FUSED)
            ),
        )
        return alone, by_type

    def _values(self) -> Mapping[str, Mapping[str, Floats]]:
        """By name, then by subject: the evidence of each image; "-name" is the fusion without it."""
        found: dict[str, dict[str, Floats]] = defaultdict(dict)
        for who, some in self._features.items():
            table = np.stack(some)
            found[FUSED][who] = self._fusion.weigh(table)
            for column, name in enumerate(EVIDENCE):
                found[name][who] = table[:, column]
                found[f"-{name}"][who] = self._fusion.weigh(table, without=name)
        return found

    def _row(self, values: Mapping[str, Mapping[str, Floats]], name: str, repeats: int) -> tuple[Cell, ...]:
        alone = tuple(self._alone(values[name], repeats, wanted) for wanted in (_strong, _subtle))
        if name == FUSED:
            return (*alone, None, None, None)
        rest, whole = values[f"-{name}"], values[FUSED]
        lost = tuple(self._lost(rest, whole, repeats, wanted) for wanted in (_strong, _subtle))
        return (*alone, self._alone(rest, repeats, _strong), *lost)

    def _alone(
        self, values: Mapping[str, Floats], repeats: int, wanted: Callable[[float], bool], kind: str = ""
    ) -> Cell:
        parts = self._parts(values, wanted, kind)
        return figure_of(len(parts), lambda rows: _pooled([parts[i] for i in rows]), repeats=repeats)

    def _lost(
        self,
        rest: Mapping[str, Floats],
        whole: Mapping[str, Floats],
        repeats: int,
        wanted: Callable[[float], bool],
    ) -> Cell:
        ours, theirs = self._parts(whole, wanted), self._parts(rest, wanted)

        def difference(rows: npt.NDArray[np.intp]) -> float:
            return _pooled([ours[i] for i in rows]) - _pooled([theirs[i] for i in rows])

        return figure_of(len(ours), difference, repeats=repeats)

    def _parts(
        self, values: Mapping[str, Floats], wanted: Callable[[float], bool], kind: str = ""
    ) -> list[tuple[Floats, Floats]]:
        """Of each subject the values of its shams and of its anomalies that are wanted."""
        parts = []
        for who, some in values.items():
            truths = self._truths[who]
            clean = [what == "sham" for what, _ in truths]
            chosen = [what != "sham" and wanted(size) and kind in {"", what} for what, size in truths]
            parts.append((some[np.array(clean)], some[np.array(chosen)]))
        return parts


def _pooled(parts: Sequence[tuple[Floats, Floats]]) -> float:
    return auroc(np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]))


def _strong(severity: float) -> bool:
    return severity >= STRONG


def _subtle(severity: float) -> bool:
    return severity == SUBTLE
