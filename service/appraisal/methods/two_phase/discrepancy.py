"""Phase 1 of paper 002: where a face is not as normal faces are, in standard deviations, and the mask.

The distance between the teacher's features and those the student gives is compared, cell by cell and
scale by scale, with what it is on normal faces kept out of training: some places are harder to give
than others on every face. The scales' standard deviations are averaged, and the average is again
brought to standard deviations. Every face is read together with its mirror image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.appraisal.face.alignment import resized
from service.appraisal.methods.two_phase.discrepancy_network import (
    INPUT_SIZE,
    SIDES,
    Student,
    Teacher,
    distances,
)
from service.errors import ModelIntegrityError

CELLS: Final = SIDES[0]
_USUAL, _STUDENT = "usual.", "student."
_FLOOR: Final = 1e-4  # added to a distance before its logarithm
_SMOOTHING: Final = 1.0  # cells, of the map the mask is made of

Distances = tuple[NDArray[np.float32], ...]  # (N, side, side) float32 a scale: log distances


@dataclass(frozen=True, kw_only=True)
class MaskSettings:
    """From z-scores to a mask; the first two are of z, the others parts of the square's side or the face."""

    sure: float = 3.0  # a spot of the mask must reach this somewhere
    likely: float = 1.75  # and reaches as far as this
    opened: float = 0.012  # radius; narrower spots are dropped
    closed: float = 0.03  # radius; narrower gaps are filled
    grown: float = 0.025  # radius by which spots are enlarged
    most: float = 0.35  # of the face; beyond, only what stands out most is masked


@dataclass(frozen=True, kw_only=True, eq=False)
class Usual:
    """What normal faces give, cell by cell; mirror-symmetric."""

    mean: tuple[NDArray[np.float32], ...]  # (side, side) a scale, of log distances
    deviation: tuple[NDArray[np.float32], ...]  # (side, side) a scale
    centre: NDArray[np.float32]  # (64, 64), mean of the scales' average z
    spread: NDArray[np.float32]  # (64, 64), its standard deviation

    def z(self, logs: Distances) -> NDArray[np.float32]:
        """Standard deviations over the usual, (N, 64, 64) float32, higher = less normal."""
        return np.asarray((self._average(logs) - self.centre) / self.spread, np.float32)

    def _average(self, logs: Distances) -> NDArray[np.float32]:
        scales = [(x - m) / d for x, m, d in zip(logs, self.mean, self.deviation, strict=True)]
        return np.asarray(np.mean([_enlarged(scale) for scale in scales], axis=0), np.float32)

    def tensors(self) -> dict[str, Tensor]:
        """As stored, beside the student's."""
        parts = {"centre": self.centre, "spread": self.spread}
        for side, mean, deviation in zip(SIDES, self.mean, self.deviation, strict=True):
            parts |= {f"mean{side}": mean, f"deviation{side}": deviation}
        return {_USUAL + name: torch.from_numpy(part.copy()) for name, part in parts.items()}


def fit_usual(logs: Distances) -> Usual:
    """Find what is usual from the log distances of normal faces kept out of training.

    Args:
        logs: (N, side, side) float32 a scale, each the mean of a face's and its mirror image's.
    """
    both = [np.concatenate([x, x[..., ::-1]]) for x in logs]
    draft = Usual(
        mean=tuple(np.asarray(x.mean(0), np.float32) for x in both),
        deviation=tuple(np.asarray(_deviation(x), np.float32) for x in both),
        centre=np.zeros((CELLS, CELLS), np.float32),
        spread=np.ones((CELLS, CELLS), np.float32),
    )
    average = draft.z(tuple(both))
    return Usual(
        mean=draft.mean,
        deviation=draft.deviation,
        centre=np.asarray(average.mean(0), np.float32),
        spread=np.asarray(_deviation(average), np.float32),
    )


def _deviation(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Per cell, drawn a little towards the face's mean, so that no cell has next to none."""
    own = values.var(0)
    return np.asarray(np.sqrt(own + 0.05 * own.mean() + 1e-6), np.float32)


def _enlarged(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    if planes.shape[-1] == CELLS:
        return planes
    return np.stack([cv2.resize(plane, (CELLS, CELLS), interpolation=cv2.INTER_LINEAR) for plane in planes])


class DiscrepancyReader:
    """Teacher, student and, once calibrated, what is usual; safe to share between threads."""

    def __init__(
        self, teacher: Mapping[str, Tensor] | None, tensors: Mapping[str, Tensor], device: str = "cpu"
    ) -> None:
        """Load the networks.

        Args:
            teacher: SqueezeNet 1.1 weights by torchvision's names; None for random ones, for tests.
            tensors: of the student, as `stored` writes them.
            device: "cpu" or "cuda".

        Raises:
            ModelIntegrityError: tensors are missing or of another network.
        """
        self._device = torch.device(device)
        student = Student()
        own = {k.removeprefix(_STUDENT): v for k, v in tensors.items() if k.startswith(_STUDENT)}
        try:
            student.load_state_dict(own)
        except RuntimeError as exc:
            raise ModelIntegrityError(f"not weights of the discrepancy student: {exc}") from exc
        self._teacher, self._student = Teacher(teacher), student
        for network in (self._teacher, self._student):
            network.eval().requires_grad_(False)
            network.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._usual = _usual_from(tensors)

    def logs(self, pictures: Sequence[NDArray[np.uint8]]) -> Distances:
        """Log distances of aligned faces, each the mean of the face's and its mirror image's.

        Args:
            pictures: (S, S, 3) uint8, sRGB, each.

        Returns:
            (N, side, side) float32 for each scale of SIDES.
        """
        count = len(pictures)
        batch = self._batch(pictures)
        with torch.inference_mode():
            features = self._teacher(torch.cat([batch, batch.flip(-1)]))
            given, _ = self._student(features)
            parts = distances(features, given)
            means = [(part[:count] + part[count:].flip(-1)) / 2 for part in parts]
            return tuple(np.asarray((mean + _FLOOR).log().cpu().numpy(), np.float32) for mean in means)

    def z(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Discrepancy of aligned faces in standard deviations, (N, 64, 64) float32.

        Raises:
            ModelIntegrityError: the weights were stored before they were calibrated.
        """
        if self._usual is None:
            raise ModelIntegrityError("the discrepancy student is not calibrated")
        if not pictures:
            return np.zeros((0, CELLS, CELLS), np.float32)
        return self._usual.z(self.logs(pictures))

    def painted(
        self, pictures: Sequence[NDArray[np.uint8]], masks: Sequence[NDArray[np.bool_]]
    ) -> Sequence[NDArray[np.float32]]:
        """What the student paints where a mask hides the face.

        Args:
            pictures: (S, S, 3) uint8, sRGB, aligned, each.
            masks: (S, S) bool each, true where hidden.

        Returns:
            (S, S, 3) float32, 0..255, each; the whole face, not only what was hidden.
        """
        hidden = torch.from_numpy(np.stack([_in_cells(mask) for mask in masks]))[:, None].to(self._device)
        batch = self._batch(pictures)
        with torch.inference_mode():
            both = torch.cat([batch, batch.flip(-1)])
            covered = torch.cat([hidden, hidden.flip(-1)])
            _, made = self._student(self._teacher(both, covered), covered)
            mean = (made[: len(pictures)] + made[len(pictures) :].flip(-1)) / 2
            planes = mean.clamp(0, 1).mul(255).permute(0, 2, 3, 1).cpu().numpy()
        return [
            np.asarray(cv2.resize(plane, picture.shape[1::-1], interpolation=cv2.INTER_CUBIC), np.float32)
            for plane, picture in zip(planes, pictures, strict=True)
        ]

    def _batch(self, pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
        stacked = np.stack([resized(picture, INPUT_SIZE) for picture in pictures]).transpose(0, 3, 1, 2)
        values = torch.from_numpy(np.ascontiguousarray(stacked)).to(self._device).float().div(255)
        return values.contiguous(memory_format=torch.channels_last)


def stored(student: Mapping[str, Tensor], usual: Usual) -> dict[str, Tensor]:
    """Student and calibration as one file holds them."""
    own = {_STUDENT + name: value for name, value in student.items()}
    return {**own, **usual.tensors()}


def _usual_from(tensors: Mapping[str, Tensor]) -> Usual | None:
    if not any(name.startswith(_USUAL) for name in tensors):
        return None

    def part(name: str, side: int) -> NDArray[np.float32]:
        found = tensors.get(_USUAL + name)
        if found is None or tuple(found.shape) != (side, side):
            raise ModelIntegrityError(
                f"the discrepancy's calibration lacks {name!r}, or it has another shape"
            )
        return np.asarray(found.float().numpy(), np.float32)

    return Usual(
        mean=tuple(part(f"mean{side}", side) for side in SIDES),
        deviation=tuple(part(f"deviation{side}", side) for side in SIDES),
        centre=part("centre", CELLS),
        spread=part("spread", CELLS),
    )


def _in_cells(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """A cell is hidden when any of its pixels is, (64, 64) float32, 0 or 1."""
    share = cv2.resize(mask.astype(np.float32), (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    return np.asarray(share > 0, np.float32)


def smooth_map(z: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Z-scores of cells, smoothed, as a map of (size, size) float32."""
    smooth = cv2.GaussianBlur(z, (0, 0), _SMOOTHING)
    return np.asarray(cv2.resize(smooth, (size, size), interpolation=cv2.INTER_CUBIC), np.float32)


def mask_of(
    z: NDArray[np.float32], face: NDArray[np.bool_], settings: MaskSettings | None = None
) -> NDArray[np.bool_]:
    """Make the mask to inpaint: spots that are surely not normal, as far as they are likely not.

    Args:
        z: (64, 64) float32, standard deviations.
        face: (S, S) bool, where a face is; the mask stays inside it.
        settings: thresholds and sizes.

    Returns:
        (S, S) bool.
    """
    settings = settings or MaskSettings()
    size = face.shape[0]
    values = np.where(face, smooth_map(z, size), -np.inf)
    likely = values > settings.likely
    allowed = settings.most * float(face.sum())
    if likely.sum() > allowed:
        likely = values > np.partition(values[face], -int(allowed))[-int(allowed)]
    spots = cv2.morphologyEx(likely.astype(np.uint8), cv2.MORPH_OPEN, _disc(settings.opened * size))
    spots = cv2.morphologyEx(spots, cv2.MORPH_CLOSE, _disc(settings.closed * size))
    count, labels = cv2.connectedComponents(spots)
    peaks = [0.0, *(float(values[labels == label].max()) for label in range(1, count))]
    kept = np.array(peaks)[labels] > settings.sure
    grown = cv2.dilate(kept.astype(np.uint8), _disc(settings.grown * size))
    return np.asarray(grown.astype(bool) & face)


def _disc(radius: float) -> NDArray[np.uint8]:
    side = 2 * max(1, round(radius)) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)
