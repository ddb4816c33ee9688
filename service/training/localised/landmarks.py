"""Training of the landmark branch on faces whose parts were displaced by known fields.

The encoder and everything else of the network stay as they are. Labels are the mesh of the normal
face carried along by the displacement, so that the branch learns where a displaced part is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from service.appraisal.anomalies import (
    RANDOM,
    Canvas,
    Change,
    forward_points,
    inter_ocular_distance,
    render,
)
from service.appraisal.memory import keep_freed_memory
from service.appraisal.methods.localised.anomaly_network import AnomalyNetwork
from service.appraisal.methods.localised.landmark_branch import LandmarkBranch
from service.appraisal.methods.localised.views import INPUT_SIZE, WHOLE, View
from service.training.faces import FacePool, NormalFace
from service.training.localised import augmentation
from service.training.localised.examples import in_square, mirrored, placed
from service.training.localised.losses import landmark_loss
from service.training.localised.morphs import stranger
from service.training.loop import Course, Limits, Progress, cosine, run

_PAINTED = frozenset({"random-blob", "random-texture", "random-line", "random-seam", "random-swap"})
_MOVES = tuple(name for name in RANDOM if name not in _PAINTED)
_ALONG = ("random-contour", "random-edge")  # some landmarks of one part
_ANY = 0.5  # share of all moves; the rest is of those along landmarks
_UNMOVED = 0.15  # share of faces left as they are
_TRIES = 4  # to find a displacement in the view
_CHECKPOINT = "landmarks.pt"
_WARM_UP = 100  # steps
_LAST_RATE = 0.02  # of the peak


@dataclass(frozen=True, kw_only=True)
class LandmarkPlan:
    """How to train the branch."""

    out: Path  # folder for checkpoint and log
    view: View = WHOLE  # what the network sees of a face
    steps: int = 8_000  # optimiser steps in all
    faces_per_batch: int = 24
    minutes: float | None = None  # wall-clock budget of this run; the rate falls to its end by then
    learning_rate: float = 2e-3
    device: str = "cpu"
    threads: int = 2
    workers: int = 1
    seed: int = 17
    save_every: int = 200


@dataclass(frozen=True, kw_only=True)
class LandmarkBatch:
    """Displaced faces with where their landmarks are."""

    images: Tensor  # (B, 3, S, S) uint8, S the view's size
    landmarks: Tensor  # (B, landmarks of the view, 2), fractions of the view
    moved: Tensor  # (B, landmarks of the view), displacement, inter-ocular distances


def displaced(
    face: NormalFace, rng: np.random.Generator, view: View = WHOLE
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """One face with up to three displacements of the random family.

    Args:
        face: 256 pixels a side.
        rng: source of all chance.
        view: what is shown of it.

    Returns:
        Image (S, S, 3) uint8, S the view's size, the view's landmarks (N, 2) as fractions of the
        view, and how far each was displaced (N,) in inter-ocular distances.
    """
    unit = inter_ocular_distance(face.landmarks)
    image, mesh = face.image, face.landmarks.astype(np.float32)
    count = 0 if rng.random() < _UNMOVED else int(rng.integers(1, 4))
    for _ in range(count):
        canvas = Canvas(image=image, landmarks=mesh, unit=unit)
        rendered = render(image, _move(canvas, rng, view))
        image, mesh = rendered.image, forward_points(mesh, rendered.displacement)
    place = placed(augmentation.placement(INPUT_SIZE, rng), view)
    image = augmentation.light(render(image, None, place, view.size).image, rng)
    if rng.random() < 0.5:
        image = augmentation.camera(image, rng)
    chosen = list(view.landmarks)
    points = in_square(mesh[chosen], place, view.size)
    moved = np.hypot(*(mesh[chosen] - face.landmarks[chosen]).T) / unit
    if rng.random() < 0.5:
        image = image[:, ::-1]
        points = mirrored(points, view)
        moved = moved[list(view.mirrored)]
    return np.ascontiguousarray(image), points, moved.astype(np.float32)


def _move(canvas: Canvas, rng: np.random.Generator, view: View) -> Change:
    """A displacement that takes some of the view's landmarks along, if one is drawn in time."""
    for _ in range(_TRIES):
        names = _MOVES if rng.random() < _ANY else _ALONG
        name = names[int(rng.integers(len(names)))]
        change = RANDOM[name](canvas, float(rng.uniform(0.2, 1.0)), rng)
        field = change.displacement
        if field is None:
            break
        strength = cv2.magnitude(field[..., 0], field[..., 1])
        at = np.rint(canvas.landmarks[list(view.landmarks)]).astype(int)
        columns, rows = np.clip(at, 0, np.array(strength.shape[::-1]) - 1).T
        if strength[rows, columns].max() > 0.5 * strength.max():
            break
    return change


class DisplacedFaces(IterableDataset[LandmarkBatch]):
    """An endless, seeded stream of batches."""

    def __init__(
        self, pool: FacePool, *, faces_per_batch: int, first_step: int, seed: int, view: View = WHOLE
    ) -> None:
        """Keep what is needed to make any batch from its number alone.

        Args:
            pool: faces to draw from.
            faces_per_batch: how many a batch.
            first_step: number of the first batch, for resuming.
            seed: of all chance.
            view: what is shown of the faces.
        """
        self._pool = pool
        self._view = view
        self._faces = faces_per_batch
        self._first = first_step
        self._seed = seed

    def __iter__(self) -> Iterator[LandmarkBatch]:
        cv2.setNumThreads(1)
        info = torch.utils.data.get_worker_info()
        step = self._first + (info.id if info else 0)
        while True:
            yield self.batch(step)
            step += info.num_workers if info else 1

    def batch(self, step: int) -> LandmarkBatch:
        """The batch of a step."""
        rng = np.random.default_rng((self._seed, step))
        drawn = (self._pool.face(self._pool.draw(rng), INPUT_SIZE) for _ in range(self._faces))
        made = [displaced(stranger(face, self._pool, rng), rng, self._view) for face in drawn]
        images, points, moved = (np.stack(part) for part in zip(*made, strict=True))
        return LandmarkBatch(
            images=torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))),
            landmarks=torch.from_numpy(points),
            moved=torch.from_numpy(moved),
        )


def _begin(network: AnomalyNetwork, plan: LandmarkPlan) -> Course[LandmarkBranch]:
    network.to(plan.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.eval().requires_grad_(False)
    branch = network.points.requires_grad_(True)
    optimiser = torch.optim.AdamW(branch.parameters(), lr=0.0, weight_decay=0.01)
    return Course(branch, optimiser, plan.out / _CHECKPOINT, name="branch")


def _loss(network: AnomalyNetwork, branch: LandmarkBranch, batch: LandmarkBatch) -> Tensor:
    branch.train()
    device = network.mean.device
    images = batch.images.to(device).float().div(255).contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        with torch.no_grad():
            features = network.encode(images)
        found = branch(*features)
    return landmark_loss(found, batch.landmarks.to(device), batch.moved.to(device))


def train_landmarks(
    network: AnomalyNetwork,
    plan: LandmarkPlan,
    pool: FacePool,
    *,
    progress: Progress | None = None,
) -> AnomalyNetwork:
    """Train the branch of a network, continuing from the checkpoint in ``plan.out`` if there is one.

    Args:
        network: trained otherwise; only its landmark branch changes.
        plan: how.
        pool: training faces.
        progress: told (step, steps, figures) now and then.

    Returns:
        The network with the averaged branch, in evaluation mode.
    """
    plan.out.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    cv2.setNumThreads(1)  # a forked worker would wait for OpenCV threads that it does not have
    course = _begin(network, plan)
    stream = DisplacedFaces(
        pool,
        faces_per_batch=plan.faces_per_batch,
        first_step=course.step,
        seed=plan.seed,
        view=plan.view,
    )
    batches = iter(DataLoader(stream, batch_size=None, num_workers=plan.workers))

    def learn(step: int, done: float) -> Mapping[str, float]:
        loss = _loss(network, course.module, next(batches))
        course.learn(loss, cosine(done, step + 1, peak=plan.learning_rate, last=_LAST_RATE, warm_up=_WARM_UP))
        return {"landmarks": float(loss.detach())}

    limits = Limits(steps=plan.steps, minutes=plan.minutes, save_every=plan.save_every)
    run(course, limits, learn, log=plan.out / "landmarks.csv", progress=progress)
    course.module.load_state_dict(course.average.state_dict())
    return network.eval()
