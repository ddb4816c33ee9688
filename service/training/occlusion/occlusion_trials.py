"""Trials of the occlusion gate on faces kept out of training, and what they show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from service.appraisal.anomalies import Maker
from service.appraisal.face.regions import region_masks
from service.appraisal.gates.occlusion import OcclusionCalibration, find_occlusion
from service.appraisal.gates.occlusion_gate import OcclusionGate
from service.appraisal.gates.occlusion_network import INPUT_SIZE
from service.records import Region
from service.training.faces import FacePool, NormalFace
from service.training.localised import augmentation
from service.training.localised.steering import auroc
from service.training.occlusion.occluders import HARMLESS, OCCLUDERS, compose, stage_of
from service.training.occlusion.occluders.stage import Field, Image
from service.training.occlusion.occlusion_examples import small_face, with_anomaly, with_occluders

PLAINLY = 0.3  # share of a region from which it is covered for everyone to see
BARELY = 0.02  # share of a region up to which it is not covered
PLAIN = "plain"
_PROBABILITIES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_SHARES = (0.08, 0.12, 0.16, 0.2, 0.25, 0.3, 0.4)
_MIN_AREA = 0.012  # of the face; below the naevus of greatest severity, above a cell's chance
_MAX_FACE = 0.65  # of the face; a surgical mask leaves the eyes to be judged, a veil leaves nothing


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """One picture of which everything is known."""

    kind: str  # occluder, anomaly, harmless thing, or "plain"
    face: int  # of the pool
    image: Image  # (128, 128, 3) uint8
    covered: Field  # (128, 128) float32, 0..1, truth
    landmarks: Field  # (478, 2) float32, pixels

    @cached_property
    def masks(self) -> Mapping[Region, npt.NDArray[np.bool_]]:
        """Masks of the regions, (128, 128) bool each."""
        return region_masks(self.landmarks.astype(np.float64), (INPUT_SIZE, INPUT_SIZE))


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """A trial with what the network made of it."""

    trial: Trial
    chance: Field  # (64, 64) float32, 0..1


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What the trials of one kind show; None where there is nothing to count."""

    kind: str
    count: int
    auroc: float | None  # of cells within the face, covered against uncovered
    iou: float | None  # of covered pixels within the face, all trials together
    found: float | None  # share of plainly covered regions that are left out
    false_regions: float  # share of uncovered regions that are left out
    false_faces: float  # share of faces that lose a region which is uncovered in truth


def trials(
    pool: FacePool, anomalies: Mapping[str, Maker], *, faces: int, seed: int, severity: float = 1.0
) -> list[Trial]:
    """Of each face: as it is, and one occluder, one anomaly and one harmless thing, all kinds in turn.

    Args:
        pool: faces.
        anomalies: named types.
        faces: how many faces at most.
        seed: of all chance.
        severity: of the anomalies.
    """
    rng = np.random.default_rng(seed)
    numbers = rng.permutation(len(pool))[:faces]
    made = []
    for turn, number in enumerate(numbers):
        face = small_face(pool, int(number))
        bare = np.zeros(face.image.shape[:2], np.float32)
        made.append(_trial(PLAIN, int(number), face, face.image, bare, None))
        seeds = int(rng.integers(2**31))
        occluder = list(OCCLUDERS)[turn % len(OCCLUDERS)]
        scene = with_occluders(face, [occluder], rng)
        made.append(_trial(occluder, int(number), face, scene.image, scene.covered, seeds))
        kind = list(anomalies)[turn % len(anomalies)]
        changed, _ = with_anomaly(face, {kind: anomalies[kind]}, rng, severity)
        made.append(_trial(kind, int(number), face, changed.image, bare, None))
        name = list(HARMLESS)[turn % len(HARMLESS)]
        stage = stage_of(face.image, face.landmarks)
        made.append(_trial(name, int(number), face, compose(stage, HARMLESS[name](stage, rng)), bare, None))
    return made


def _trial(kind: str, number: int, face: NormalFace, image: Image, covered: Field, seed: int | None) -> Trial:  # noqa: PLR0917
    if seed is not None:  # the camera sees occluder and face alike
        rng = np.random.default_rng(seed)
        image = augmentation.light(image, rng)
        if rng.random() < 0.5:
            image = augmentation.camera(image, rng)
    return Trial(kind=kind, face=number, image=image, covered=covered, landmarks=face.landmarks)


def see(gate: OcclusionGate, given: Sequence[Trial]) -> list[Seen]:
    """Run the network over trials."""
    seen = []
    for first in range(0, len(given), 32):
        part = given[first : first + 32]
        chances = gate.probabilities(np.stack([trial.image for trial in part]))
        seen += [Seen(trial=trial, chance=chance) for trial, chance in zip(part, chances, strict=True)]
    return seen


def _shares(
    covered: npt.NDArray[np.bool_], masks: Mapping[Region, npt.NDArray[np.bool_]]
) -> dict[Region, float]:
    return {
        region: float((covered & mask).sum()) / max(int(mask.sum()), 1)
        for region, mask in masks.items()
        if region is not Region.FACE
    }


def choose(
    seen: Sequence[Seen], *, version: str, model: str, basis: str, most_false: float
) -> OcclusionCalibration:
    """The thresholds that find most plainly covered regions among those that falsely leave out few.

    A face as it is may wear glasses: only what a thing that covers nothing adds counts as false.

    Args:
        seen: trials of the calibration split.
        version: of the calibration.
        model: id in the manifest.
        basis: what it was made from, in a sentence.
        most_false: highest share of anomalies and harmless things that may cost a region.
    """
    options = []
    for probability in _PROBABILITIES:
        for share in _SHARES:
            given = OcclusionCalibration(
                version=version, model=model, basis=basis, probability=probability,
                min_area=_MIN_AREA, max_region=share, max_face=_MAX_FACE,
            )  # fmt: skip
            rows = [figures(kind, of, given) for kind, of in by_kind(seen).items() if kind != PLAIN]
            found = float(np.mean([row.found for row in rows if row.found is not None]))
            bare = [row for row in rows if row.kind not in OCCLUDERS]
            false = sum(row.false_faces * row.count for row in bare) / sum(row.count for row in bare)
            options.append((false <= most_false, found if false <= most_false else -false, given))
    return max(options, key=lambda option: option[:2])[2]


def by_kind(seen: Iterable[Seen]) -> dict[str, list[tuple[Seen, Seen]]]:
    """Trials by kind, each with the trial of the same face as it is."""
    listed = list(seen)
    plain = {one.trial.face: one for one in listed if one.trial.kind == PLAIN}
    kinds: dict[str, list[tuple[Seen, Seen]]] = {}
    for one in listed:
        kinds.setdefault(one.trial.kind, []).append((one, plain[one.trial.face]))
    return kinds


def figures(kind: str, pairs: Sequence[tuple[Seen, Seen]], calibration: OcclusionCalibration) -> Figures:
    """Count what the gate makes of trials of one kind; regions lost without the thing count for nothing."""
    inside, outside = [], []
    overlap = union = found = plainly = false = bare = harmed = 0
    for one, plain in pairs:
        masks = one.trial.masks
        lost_anyway = (
            find_occlusion(plain.chance, masks, calibration).regions if kind != PLAIN else frozenset()
        )
        occlusion = find_occlusion(one.chance, masks, calibration)
        truth = (one.trial.covered > 0.5) & masks[Region.FACE]
        overlap += int((truth & occlusion.covered).sum())
        union += int((truth | occlusion.covered).sum())
        shares = _shares(truth, masks)
        wrong = {r for r, share in shares.items() if share <= BARELY and r in occlusion.regions - lost_anyway}
        harmed += bool(wrong)
        false += len(wrong)
        bare += sum(share <= BARELY for share in shares.values())
        found += sum(share >= PLAINLY and r in occlusion.regions for r, share in shares.items())
        plainly += sum(share >= PLAINLY for share in shares.values())
        cells = cv2.resize(one.chance, (INPUT_SIZE, INPUT_SIZE))
        inside.append(cells[truth][::3])
        outside.append(cells[masks[Region.FACE] & ~truth][::7])
    positive, negative = np.concatenate(inside), np.concatenate(outside)
    return Figures(
        kind=kind,
        count=len(pairs),
        auroc=auroc(negative.astype(np.float64), positive.astype(np.float64)) if positive.size else None,
        iou=overlap / union if positive.size and union else None,
        found=found / plainly if plainly else None,
        false_regions=false / max(bare, 1),
        false_faces=harmed / len(pairs),
    )
