"""Trains the student of paper 002 on normal faces: resumable, logged, with contact sheets.

Half of the faces of a step are whole; of the other half parts are hidden, and the student has to give
what is there from what surrounds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from service.appraisal.face.alignment import alignment_matrix
from service.appraisal.methods.two_phase.discrepancy_network import (
    INPUT_SIZE,
    PICTURE_SIZE,
    SIDES,
    Features,
    Student,
    Teacher,
    distances,
)
from service.training.faces import FacePool, NormalFace
from service.training.localised import augmentation
from service.training.loop import Course, Limits, Progress, cosine, run
from service.training.schedule import save_halves

_WARM_UP = 100
_LAST_RATE = 0.02  # of the peak
_PICTURE_WEIGHT = 1.0
_SHEET_EVERY = 500
_SHEET_FACES = 6


@dataclass(frozen=True, kw_only=True)
class DiscrepancyPlan:
    """How to train; everything that decides the weights."""

    out: Path  # folder for checkpoint, log, contact sheets and weights
    teacher: Path  # SqueezeNet 1.1 weights (safetensors)
    steps: int = 6_000  # optimiser steps in all
    faces_per_batch: int = 12
    minutes: float | None = None  # wall-clock budget of this run; the rate falls to its end by then
    learning_rate: float = 2e-3  # at its peak
    device: str = "cpu"
    threads: int = 1
    seed: int = 2
    save_every: int = 200


def hide(rng: np.random.Generator) -> NDArray[np.float32]:
    """A random part of the face to hide: one to three strokes or spots, (64, 64) float32, 0 or 1."""
    side = SIDES[0]
    plane = np.zeros((side, side), np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        start = rng.uniform(0.12, 0.88, 2) * side
        end = start + rng.normal(0, 0.10 * side, 2)
        width = int(rng.uniform(0.06, 0.26) * side)
        points = [tuple(int(v) for v in np.rint(point)) for point in (start, end)]
        cv2.line(plane, points[0], points[1], (1.0,), max(width, 2))
    return plane.astype(np.float32)


def as_seen(face: NormalFace, rng: np.random.Generator, *, plain: bool = False) -> NDArray[np.uint8]:
    """A face in the canonical square, as the product aligns it, as a camera might see it.

    Args:
        face: of INPUT_SIZE pixels a side, with its mesh.
        rng: of all chance.
        plain: leave out turning, shift, light and camera.

    Returns:
        (256, 256, 3) uint8, sRGB.
    """
    square = np.vstack([alignment_matrix(face.landmarks.astype(np.float64), INPUT_SIZE), [0, 0, 1]])
    back = np.linalg.inv(square)
    if not plain:
        back = back @ np.vstack([augmentation.placement(INPUT_SIZE, rng, 0.6), [0, 0, 1]])
    placed = cv2.warpAffine(
        face.image,
        back[:2],
        (INPUT_SIZE, INPUT_SIZE),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    image = np.asarray(placed, np.uint8)
    if plain:
        return image
    lit = augmentation.light(image, rng)
    return augmentation.camera(lit, rng) if rng.random() < 0.5 else lit


def _drawn(pool: FacePool, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A training face or its mirror image, (256, 256, 3) uint8, sRGB."""
    image = as_seen(pool.face(pool.draw(rng), INPUT_SIZE), rng)
    return image[:, ::-1] if rng.random() < 0.5 else image


def as_batch(images: list[NDArray[np.uint8]], device: torch.device) -> Tensor:
    """Pictures of (256, 256, 3) uint8 as (B, 3, 256, 256) float32, 0..1."""
    stacked = torch.from_numpy(np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2)))
    return stacked.to(device).float().div(255).contiguous(memory_format=torch.channels_last)


def load_teacher(path: Path) -> Teacher:
    """The frozen teacher from SqueezeNet 1.1 weights."""
    teacher = Teacher({name: value.float() for name, value in load_file(path).items()})
    return teacher.eval().requires_grad_(False)


def train_discrepancy(
    plan: DiscrepancyPlan, pool: FacePool, held: FacePool, *, progress: Progress | None = None
) -> Path:
    """Train, continuing from the checkpoint in ``plan.out`` when there is one.

    Args:
        plan: how.
        pool: training faces.
        held: faces to watch the student on; it never learns from them.
        progress: told (step, steps, figures) now and then.

    Returns:
        The weights (safetensors, half precision) of the averaged student.
    """
    plan.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(plan.threads)
    device = torch.device(plan.device)
    teacher = load_teacher(plan.teacher).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    course = _begin(plan, device)
    rng = np.random.default_rng((plan.seed, course.step))
    shown = np.linspace(0, len(held) - 1, min(_SHEET_FACES, len(held))).astype(int)
    watched = as_batch(
        [as_seen(held.face(int(number), INPUT_SIZE), rng, plain=True) for number in shown], device
    )
    weights = plan.out / "student.safetensors"

    def learn(step: int, done: float) -> Mapping[str, float]:
        rate = cosine(done, step + 1, peak=plan.learning_rate, last=_LAST_RATE, warm_up=_WARM_UP)
        return _learn(plan, course, teacher, pool, rng, rate=rate)

    def look(step: int) -> None:
        _contact_sheet(plan.out / f"sheet-{step:06d}.png", teacher, course.average, watched)

    run(
        course,
        Limits(steps=plan.steps, minutes=plan.minutes, save_every=plan.save_every),
        learn,
        log=plan.out / "log.csv",
        saved=lambda: save_halves(course.average.state_dict(), weights),
        looks=((_SHEET_EVERY, look),),
        progress=progress,
    )
    return weights


def _begin(plan: DiscrepancyPlan, device: torch.device) -> Course[Student]:
    torch.manual_seed(plan.seed)
    student = Student().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(student.parameters(), lr=0.0, weight_decay=0.01)
    course = Course(student, optimiser, plan.out / "checkpoint.pt", name="student")
    course.average.eval()
    return course


def _learn(
    plan: DiscrepancyPlan,
    course: Course[Student],
    teacher: Teacher,
    pool: FacePool,
    rng: np.random.Generator,
    *,
    rate: float,
) -> dict[str, float]:
    """One step; its losses."""
    device = torch.device(plan.device)
    faces = as_batch([_drawn(pool, rng) for _ in range(plan.faces_per_batch)], device)
    whole = plan.faces_per_batch - plan.faces_per_batch // 2
    hidden = torch.zeros(len(faces), 1, SIDES[0], SIDES[0], device=device)
    for index in range(whole, len(faces)):
        hidden[index, 0] = torch.from_numpy(hide(rng))
    course.module.train()
    with torch.autocast(device.type, dtype=torch.bfloat16):
        wanted: Features = teacher(faces)
        seen = teacher(faces[whole:], hidden[whole:]) if whole < len(faces) else ()
        known = [torch.cat([w[:whole], s]) for w, s in zip(wanted, seen, strict=True)] if seen else wanted
        given, picture = course.module((known[0], known[1], known[2]), hidden)
    parts = [part.mean() for part in distances(wanted, given)]
    target = torch.nn.functional.avg_pool2d(faces, INPUT_SIZE // PICTURE_SIZE)
    painted = (picture - target).abs().mean()
    course.learn(torch.stack(parts).sum() + _PICTURE_WEIGHT * painted, rate)
    names = [f"distance{side}" for side in SIDES]
    return {
        **{name: float(part.detach()) for name, part in zip(names, parts, strict=True)},
        "picture": float(painted.detach()),
    }


@torch.no_grad()
def _contact_sheet(path: Path, teacher: Teacher, student: Student, faces: Tensor) -> None:
    """Held-out faces, the student's pictures of them, whole and with a part hidden, and the distance."""
    student.eval()
    hidden = torch.zeros(len(faces), 1, SIDES[0], SIDES[0], device=faces.device)
    for index in range(len(faces)):
        hidden[index, 0] = torch.from_numpy(hide(np.random.default_rng(index)))
    features = teacher(faces)
    given, picture = student(features)
    _, filled = student(teacher(faces, hidden), hidden)
    distance = distances(features, given)[0]
    mask = torch.nn.functional.interpolate(hidden, size=PICTURE_SIZE)
    small = torch.nn.functional.avg_pool2d(faces, INPUT_SIZE // PICTURE_SIZE)
    rows = []
    for planes in (small, picture, small * (1 - mask), small * (1 - mask) + filled * mask):
        pictures = (planes.clamp(0, 1) * 255).byte().cpu().numpy().transpose(0, 2, 3, 1)[..., ::-1]
        rows.append(np.hstack(list(pictures)))
    grey = (distance.clamp(0, 0.5) * 510).byte().cpu().numpy()
    heat = [cv2.applyColorMap(cv2.resize(g, (PICTURE_SIZE,) * 2), cv2.COLORMAP_MAGMA) for g in grey]
    cv2.imwrite(str(path), np.vstack([*rows, np.hstack(heat)]))
