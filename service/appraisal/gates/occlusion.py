"""What lies before a face: which pixels and regions may not be judged, and what is put in their place.

A network (service/appraisal/gates/occlusion_gate.py) gives the probability that something lies before each
cell of the aligned face. Here it becomes a mask and, for each region, a share. Large enough areas of
probable cells are left out of the difference map; a region of which more than a calibrated share is
covered is left out as a whole. Methods read the face as a whole, so the covered part is replaced
before they see it: by the mirrored other half where that is free, by a smooth continuation of what is
around it elsewhere. What was replaced is never scored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from service.appraisal.calibration import CALIBRATIONS_DIR
from service.appraisal.face.alignment import AlignedFace
from service.appraisal.face.regions import face_mask
from service.appraisal.methods.symmetry.normaliser import facial_midline
from service.appraisal.score import MIN_JUDGED
from service.errors import ConfigurationError
from service.records import ExclusionReason, Region

# Regions made of others: they are left out when covered themselves, and leave no other out.
COMPOSITE = frozenset({Region.FACE, Region.ORONASAL})
_FEATHER = 0.012  # of the square's side; softens the seam of what is put in place
_REACH = 0.06  # of the square's side; smoothness of the continuation


@dataclass(frozen=True, kw_only=True)
class OcclusionCalibration:
    """When a cell, a region and a face count as covered; made on faces kept out of training."""

    version: str  # e.g. "occlusion-1"
    model: str  # id in the model manifest
    basis: str  # what it was made from, in a sentence
    probability: float  # from which a cell counts as covered
    min_area: float  # smallest covered area that counts, fraction of the face
    max_region: float  # share of a region covered above which it is left out
    max_face: float  # share of the face covered above which the photograph is rejected


@dataclass(frozen=True, kw_only=True, eq=False)
class Occlusion:
    """What of one aligned face of S pixels a side is covered."""

    covered: NDArray[np.bool_]  # (S, S) bool: something lies before the pixel
    left_out: NDArray[np.bool_]  # (S, S) bool: covered, or of a region that is left out
    shares: Mapping[Region, float]  # fraction of each region that is covered, 0..1
    regions: frozenset[Region]  # left out
    too_much: bool  # whether too little face is left to judge


class OcclusionFinder(Protocol):
    """Finds what lies before faces."""

    def find(self, faces: Sequence[AlignedFace]) -> Sequence[Occlusion]:
        """Return one occlusion a face, in order."""
        ...


def load_occlusion_calibration(version: str, directory: Path = CALIBRATIONS_DIR) -> OcclusionCalibration:
    """Read a stored calibration.

    Raises:
        ConfigurationError: There is none of that version, or it is malformed.
    """
    path = directory / f"{version}.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return OcclusionCalibration(
            version=str(raw["version"]),
            model=str(raw["model"]),
            basis=str(raw["basis"]),
            probability=float(raw["probability"]),
            min_area=float(raw["min_area"]),
            max_region=float(raw["max_region"]),
            max_face=float(raw["max_face"]),
        )
    except (OSError, KeyError, ValueError, TypeError) as exc:
        raise ConfigurationError(f"calibration {path}: {exc!r}") from exc


def save_occlusion_calibration(calibration: OcclusionCalibration, directory: Path = CALIBRATIONS_DIR) -> Path:
    """Write a calibration as JSON and return its path."""
    path = directory / f"{calibration.version}.json"
    content = {
        "version": calibration.version,
        "model": calibration.model,
        "basis": calibration.basis,
        "probability": calibration.probability,
        "min_area": calibration.min_area,
        "max_region": calibration.max_region,
        "max_face": calibration.max_face,
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path


def find_occlusion(
    probability: NDArray[np.float32],
    masks: Mapping[Region, NDArray[np.bool_]],
    calibration: OcclusionCalibration,
) -> Occlusion:
    """Turn a map of probabilities into what is left out.

    Args:
        probability: (h, w) float32, 0..1, of the whole square, at any resolution.
        masks: Region -> (S, S) bool.
        calibration: Thresholds.
    """
    face = masks[Region.FACE]
    size = face.shape[0]
    fine = cv2.resize(probability, (size, size), interpolation=cv2.INTER_LINEAR)
    covered = _large((fine >= calibration.probability) & face, calibration.min_area * face.sum())
    shares = {region: _share(covered, mask) for region, mask in masks.items()}
    regions = frozenset(
        region
        for region, share in shares.items()
        if region is not Region.FACE and share > calibration.max_region
    )
    left_out = covered.copy()
    for region in regions - COMPOSITE:
        left_out |= masks[region]
    return Occlusion(
        covered=covered,
        left_out=left_out,
        shares=shares,
        regions=regions,
        too_much=shares[Region.FACE] > calibration.max_face,
    )


def _share(covered: NDArray[np.bool_], mask: NDArray[np.bool_]) -> float:
    count = int(mask.sum())
    return float((covered & mask).sum()) / count if count else 0.0


def _large(mask: NDArray[np.bool_], least: float) -> NDArray[np.bool_]:
    """The connected areas of at least that many pixels."""
    _, labels, figures, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    keep = figures[:, cv2.CC_STAT_AREA] >= max(least, 1.0)
    keep[0] = False
    return np.asarray(keep[labels], np.bool_)


def excluded_regions(
    masks: Mapping[Region, NDArray[np.bool_]], inside: NDArray[np.bool_], occlusion: Occlusion | None
) -> Mapping[Region, ExclusionReason]:
    """Which regions get no score because of the photograph, and why.

    Args:
        masks: Region -> (S, S) bool.
        inside: (S, S) bool: the pixel lies in the photograph.
        occlusion: What is covered; None when nothing looked for it.
    """
    excluded = {}
    for region, mask in masks.items():
        if occlusion is not None and region in occlusion.regions:
            excluded[region] = ExclusionReason.OCCLUDED
        elif 1 - _share(~inside, mask) < MIN_JUDGED:
            excluded[region] = ExclusionReason.CUT_OFF
    return excluded


def exclusion_notes(excluded: Mapping[Region, ExclusionReason]) -> tuple[str, ...]:
    """Say for people which regions were left out."""
    return tuple(f"{region} left out: {reason}" for region, reason in excluded.items())


def without_cover(face: AlignedFace, occlusion: Occlusion) -> AlignedFace:
    """The face with what may not be judged replaced, and marked as not inside the photograph."""
    if not occlusion.left_out.any():
        return face
    return replace(
        face,
        rgb=_filled(face.rgb, occlusion.left_out, face),
        inside=face.inside & ~occlusion.left_out,
    )


def _filled(rgb: NDArray[np.uint8], hole: NDArray[np.bool_], face: AlignedFace) -> NDArray[np.uint8]:
    """Replace a hole by the mirrored other half where that is free, else by what is around it."""
    size = rgb.shape[0]
    # A little more than the mask: edges and shadows of what was before the face go too.
    grown = cv2.dilate(hole.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    reflection = facial_midline(face.landmarks).reflection()
    mirrored = cv2.warpAffine(rgb, reflection, (size, size), borderMode=cv2.BORDER_REPLICATE)
    free = ~grown & face.inside & face_mask(face.landmarks, (size, size))
    other_free = cv2.warpAffine(free.astype(np.uint8), reflection, (size, size)).astype(bool)
    around = _continued(rgb, free)
    # The other half is lit from its own side: take its detail, and the light of this one.
    smooth = _continued(np.asarray(mirrored, np.uint8), other_free)
    detail = np.clip(np.asarray(mirrored, np.float32) / (smooth + 4.0), 0, 1.8)
    placed = np.where(other_free[..., None], detail * (around + 4.0), around)
    weight = cv2.GaussianBlur(grown.astype(np.float32), (0, 0), _FEATHER * size)
    weight = np.where(hole, 1.0, np.clip(weight, 0, 1))[..., None]
    mixed = rgb + weight * (placed - rgb)
    return np.asarray(np.clip(np.rint(mixed), 0, 255), np.uint8)


def _continued(rgb: NDArray[np.uint8], free: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The smooth part of a picture, carried on from where it is free, (S, S, 3) float32."""
    size = rgb.shape[0]
    small = max(16, size // 4)
    planes = np.dstack([rgb * free[..., None].astype(np.float32), free.astype(np.float32)])
    coarse = cv2.resize(planes.astype(np.float32), (small, small), interpolation=cv2.INTER_AREA)
    value, weight = coarse[..., :3], coarse[..., 3:]
    total, known = np.zeros_like(value), np.zeros_like(weight)
    for sigma in (_REACH, 3 * _REACH, 9 * _REACH):  # the nearest that is known counts most
        blurred = cv2.GaussianBlur(np.dstack([value, weight]), (0, 0), sigma * small)
        share = (1 - known) * np.clip(4 * blurred[..., 3:], 0, 1)
        total = total + share * blurred[..., :3] / np.maximum(blurred[..., 3:], 1e-4)
        known = known + share
    smooth = total / np.maximum(known, 1e-4)
    return np.asarray(cv2.resize(smooth, (size, size), interpolation=cv2.INTER_LINEAR), np.float32)
