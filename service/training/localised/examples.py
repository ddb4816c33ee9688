"""Training examples: of each face a sham control, a subtle and a plain random anomaly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from service.appraisal.anomalies import (
    Canvas,
    Change,
    Maker,
    Rendered,
    forward_points,
    inter_ocular_distance,
    render,
    undoing_displacement,
)
from service.appraisal.anomalies.anatomy import OVAL
from service.appraisal.methods.localised.anomaly_network import FLOW_UNIT
from service.appraisal.methods.localised.views import INPUT_SIZE, WHOLE, View
from service.training.faces import FacePool, NormalFace
from service.training.localised import augmentation
from service.training.localised.morphs import stranger

Field = npt.NDArray[np.float32]
PER_FACE = 3
_TRIES = 12  # to find a change that shows
_OFF_FACE = 0.7  # a change must be at least this strong inside the oval, relative to outside
_VISIBLE = 10.0  # grey levels by which the most changed tenth of the mask must differ


@dataclass(frozen=True, kw_only=True)
class Example:
    """One image with its targets; batches stack these."""

    image: npt.NDArray[np.uint8]  # (S, S, 3) uint8, sRGB; S pixels and C cells as the view has
    localisation: Field  # (1, C, C), 0..1
    flow: Field  # (2, C, C), units of FLOW_UNIT inter-ocular distances
    residual: Field  # (3, C, C), 0..1 scale
    severity: float  # 0 for a sham
    landmarks: Field  # (landmarks of the view, 2), where they are now, fractions of the view
    moved: Field  # (landmarks of the view,), how far the change took them, inter-ocular distances


def _small(plane: Field, cells: int) -> Field:
    return np.asarray(cv2.resize(plane, (cells, cells), interpolation=cv2.INTER_AREA), np.float32)


def _strength(rendered: Rendered) -> Field:
    """How plainly a pixel belongs to the anomaly, (H, W) 0..1."""
    moved = cv2.magnitude(rendered.displacement[..., 0], rendered.displacement[..., 1])
    share = moved / max(float(moved.max()), 1e-3)
    return np.maximum(np.clip((share - 0.12) / 0.35, 0, 1), np.clip(2 * rendered.alpha, 0, 1))


def in_square(points: Field, place: Field, size: int = INPUT_SIZE) -> Field:
    """Points of a face where a placement puts them, (N, 2) float32, fractions of the square.

    Args:
        points: (N, 2) float32, pixels of the face.
        place: (2, 3) float32, output pixel -> face pixel.
        size: side of the output, pixels.
    """
    inverse = np.linalg.inv(place[:, :2]).T
    return np.asarray(((points - place[:, 2]) @ inverse + 0.5) / size, np.float32)


def mirrored(points: Field, view: View = WHOLE) -> Field:
    """Landmarks of the mirror image, (landmarks of the view, 2) float32, fractions of the view."""
    return np.asarray(points[list(view.mirrored)] * np.array([-1, 1]) + np.array([1, 0]), np.float32)


def make_change(
    canvas: Canvas,
    makers: Mapping[str, Maker],
    severity: float,
    rng: np.random.Generator,
    view: View = WHOLE,
) -> tuple[Change, int]:
    """A change that can be seen on the face, and the seed that makes it again at another severity.

    A displacement of even skin cannot be seen; to call it an anomaly would only teach noise. Neither
    can one beside the view.
    """
    oval = np.zeros(canvas.image.shape[:2], np.uint8)
    cv2.fillPoly(oval, [np.rint(canvas.landmarks[list(OVAL)]).astype(np.int32)], (1.0,))
    rows, columns = (np.arange(length) / length for length in oval.shape)
    oval[(rows < view.top) | (rows > view.top + view.extent)] = 0
    oval[:, (columns < view.left) | (columns > view.left + view.extent)] = 0
    for _ in range(_TRIES):
        seed = int(rng.integers(2**31))
        change = remake(canvas, makers, severity, seed)
        if _shows(canvas, change, oval):
            break
    return change, seed


def _shows(canvas: Canvas, change: Change, oval: npt.NDArray[np.uint8]) -> bool:
    strength = np.zeros(oval.shape, np.float32)
    if change.displacement is not None:
        strength += np.hypot(*np.moveaxis(change.displacement, -1, 0)) / canvas.unit
    if change.paint is not None:
        strength += change.paint.alpha
    if strength[oval > 0].max(initial=0) <= _OFF_FACE * strength.max():
        return False
    rendered = render(canvas.image, change)
    changed = cv2.absdiff(rendered.image, canvas.image).max(axis=2)[rendered.mask & (oval > 0)]
    return changed.size > 0 and float(np.percentile(changed, 90)) > _VISIBLE


def remake(canvas: Canvas, makers: Mapping[str, Maker], severity: float, seed: int) -> Change:
    """The change of a seed at a severity."""
    own = np.random.default_rng(seed)
    names = list(makers)
    return makers[names[int(own.integers(len(names)))]](canvas, severity, own)


def placed(place: Field, view: View) -> Field:
    """Pixels of a view of a face -> pixels of the face, (2, 3) float32.

    Args:
        place: (2, 3) float32, pixels of the square of INPUT_SIZE -> pixels of the face.
        view: what is seen of the square.
    """
    own = view.to_aligned(INPUT_SIZE)
    linear = place[:, :2] @ own[:, :2]
    return np.hstack([linear, (place[:, :2] @ own[:, 2] + place[:, 2])[:, None]]).astype(np.float32)


def _example(  # noqa: PLR0917
    face: NormalFace,
    change: Change | None,
    place: Field,
    seeds: tuple[int, int],
    flip: bool,
    view: View,
) -> Example:
    rendered = render(face.image, change, place, view.size)
    unit = inter_ocular_distance(face.landmarks)
    image = augmentation.light(rendered.image, np.random.default_rng(seeds[0]))
    if seeds[1] % 5 > 1:  # two images in five keep the camera they were taken with
        image = augmentation.camera(image, np.random.default_rng(seeds[1]))
    localisation = np.zeros((view.cells, view.cells), np.float32)
    flow = np.zeros((view.cells, view.cells, 2), np.float32)
    residual = np.zeros((view.cells, view.cells, 3), np.float32)
    if change is not None:
        localisation = _small(_strength(rendered), view.cells)
        seen_unit = unit * view.size / (view.extent * INPUT_SIZE)
        flow = _small(undoing_displacement(rendered.displacement, 2), view.cells)
        flow /= np.float32(FLOW_UNIT * seen_unit)
        if change.paint is not None:
            away = rendered.unpainted.astype(np.float32) - rendered.image
            residual = _small(away / np.float32(255), view.cells)
    normal = face.landmarks[list(view.landmarks)].astype(np.float32)
    field = None if change is None else change.displacement
    points = normal if field is None else forward_points(normal, field)
    landmarks = in_square(points, place, view.size)
    moved = np.hypot(*(points - normal).T) / np.float32(unit)
    if flip:
        landmarks, moved = mirrored(landmarks, view), moved[list(view.mirrored)]
        image, localisation = image[:, ::-1], localisation[:, ::-1]
        flow = flow[:, ::-1] * np.array([-1, 1], np.float32)
        residual = residual[:, ::-1]
    return Example(
        image=np.ascontiguousarray(image),
        localisation=np.ascontiguousarray(localisation[None]),
        flow=np.ascontiguousarray(flow.transpose(2, 0, 1)),
        residual=np.ascontiguousarray(residual.transpose(2, 0, 1)),
        severity=0.0 if change is None else change.severity,
        landmarks=landmarks,
        moved=moved,
    )


def trio(
    face: NormalFace,
    makers: Mapping[str, Maker],
    easiest: float,
    rng: np.random.Generator,
    view: View = WHOLE,
) -> tuple[Example, Example, Example]:
    """Sham, subtle and plain version of one face.

    Args:
        face: 256 pixels a side.
        makers: the anomaly types to draw from.
        easiest: lowest severity of the plain version; the curriculum lowers it.
        rng: source of all chance.
        view: what is shown of it.
    """
    unit = inter_ocular_distance(face.landmarks)
    canvas = Canvas(image=face.image, landmarks=face.landmarks, unit=unit)
    plain_severity = float(rng.uniform(easiest, 1.0))
    subtle_severity = plain_severity * float(rng.uniform(0.3, 0.8))
    plain, seed = make_change(canvas, makers, plain_severity, rng, view)
    if rng.random() < 0.5:
        subtle = remake(canvas, makers, subtle_severity, seed)
    else:
        subtle, _ = make_change(canvas, makers, subtle_severity, rng, view)
    flip = bool(rng.random() < 0.5)
    shared = rng.random() < 0.6
    place = placed(augmentation.placement(INPUT_SIZE, rng), view)
    seeds = (int(rng.integers(2**31)), int(rng.integers(2**31)))
    made = []
    for change in (None, subtle, plain):
        if not shared:
            place = placed(augmentation.placement(INPUT_SIZE, rng), view)
            seeds = (int(rng.integers(2**31)), int(rng.integers(2**31)))
        made.append(_example(face, change, place, seeds, flip, view))
    return made[0], made[1], made[2]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Examples stacked: sham, subtle, plain, sham, subtle, plain, ..."""

    images: Tensor  # (B, 3, S, S) uint8; S pixels and C cells as the view has
    localisation: Tensor  # (B, 1, C, C)
    flow: Tensor  # (B, 2, C, C)
    residual: Tensor  # (B, 3, C, C)
    severity: Tensor  # (B,)
    landmarks: Tensor  # (B, landmarks of the view, 2)
    moved: Tensor  # (B, landmarks of the view)


def collate(examples: list[Example]) -> Batch:
    """Stack examples."""
    images = np.stack([e.image for e in examples]).transpose(0, 3, 1, 2)
    return Batch(
        images=torch.from_numpy(np.ascontiguousarray(images)),
        localisation=torch.from_numpy(np.stack([e.localisation for e in examples])),
        flow=torch.from_numpy(np.stack([e.flow for e in examples])),
        residual=torch.from_numpy(np.stack([e.residual for e in examples])),
        severity=torch.tensor([e.severity for e in examples], dtype=torch.float32),
        landmarks=torch.from_numpy(np.stack([e.landmarks for e in examples])),
        moved=torch.from_numpy(np.stack([e.moved for e in examples])),
    )


class Examples(IterableDataset[Batch]):
    """An endless, seeded stream of batches."""

    def __init__(
        self,
        pool: FacePool,
        makers: Mapping[str, Maker],
        *,
        faces_per_batch: int,
        first_step: int,
        curriculum_steps: int,
        seed: int,
        view: View = WHOLE,
    ) -> None:
        """Keep what is needed to make any batch from its number alone.

        Args:
            pool: faces to draw from.
            makers: anomaly types to draw from.
            faces_per_batch: faces, each giving PER_FACE images.
            first_step: number of the first batch, for resuming.
            curriculum_steps: steps over which the lowest severity falls from .7 to .35.
            seed: of all chance.
            view: what is shown of the faces.
        """
        self._pool = pool
        self._view = view
        self._makers = makers
        self._faces = faces_per_batch
        self._first = first_step
        self._curriculum = curriculum_steps
        self._seed = seed

    def __iter__(self) -> Iterator[Batch]:
        cv2.setNumThreads(1)
        info = torch.utils.data.get_worker_info()
        step = self._first + (info.id if info else 0)
        stride = info.num_workers if info else 1
        while True:
            yield self.batch(step)
            step += stride

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        rng = np.random.default_rng((self._seed, step))
        done = min(step / max(self._curriculum, 1), 1.0)
        easiest = 0.7 - 0.35 * done
        examples: list[Example] = []
        for _ in range(self._faces):
            face = stranger(self._pool.face(self._pool.draw(rng), INPUT_SIZE), self._pool, rng)
            examples.extend(trio(face, self._makers, easiest, rng, self._view))
        return collate(examples)
