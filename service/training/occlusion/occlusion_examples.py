"""Examples for the occlusion gate: faces with something before them, and faces that only look unusual."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from service.appraisal.anomalies import Canvas, Maker, inter_ocular_distance, render
from service.appraisal.anomalies.anatomy import OVAL
from service.appraisal.gates.occlusion_network import INPUT_SIZE, OUTPUT_SIZE
from service.training.faces import FacePool, NormalFace
from service.training.localised import augmentation
from service.training.occlusion.occluders import HARMLESS, OCCLUDERS, Cover, brow_line, compose, stage_of
from service.training.occlusion.occluders.stage import Field, Image, blurred

_OFF_FACE_WEIGHT = 0.15  # of pixels outside the face, which no gate looks at
_DOUBTFUL_WEIGHT = 0.1  # of pixels where a face of the archive may itself be covered
_SURE, _DOUBTFUL = 0.8, 0.25  # probabilities of an earlier round, of covered and of perhaps covered
_LEAST_SURE_CELLS = 60  # of a sure area, in output cells
# Share of examples: something before the face; an anomaly; make-up or a lesion. The rest is plain.
_SHARES = (0.5, 0.2, 0.15)
_OFTEN = {"glasses": 3.0, "hand": 2.0, "hair": 2.0, "nasal-tube": 1.5, "tape": 1.5}  # others 1


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One picture with what is known of it; 128 pixels a side."""

    image: Image  # (128, 128, 3) uint8, sRGB
    covered: Field  # (128, 128) float32, 0..1
    weight: Field  # (128, 128) float32, how much each pixel counts
    kind: str  # name of the occluder, anomaly or harmless thing; "plain"


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Scenes stacked."""

    images: Tensor  # (B, 3, 128, 128) uint8
    covered: Tensor  # (B, 1, 64, 64) float32
    weight: Tensor  # (B, 1, 64, 64) float32


@dataclass(frozen=True, kw_only=True)
class SceneMaker:
    """Makes scenes of the faces of a pool."""

    pool: FacePool
    anomalies: Mapping[str, Maker]
    # (128, 128, 3) uint8 -> (64, 64) float32: probability that the face itself is covered, as far as known.
    look: Callable[[Image], Field] | None = None

    def draw(self, rng: np.random.Generator) -> Scene:
        """A random scene, placed, lit and photographed at random."""
        face = small_face(self.pool, self.pool.draw(rng))
        scene = self._scene(face, rng)
        covered, weight = self._own(face, scene)
        place = augmentation.placement(INPUT_SIZE, rng, 1.3)
        image, covered, weight = _placed(scene.image, covered, weight, place, flip=bool(rng.random() < 0.5))
        image = augmentation.light(image, rng)
        if rng.random() < 0.6:
            image = augmentation.camera(image, rng)
        return Scene(image=image, covered=covered, weight=weight, kind=scene.kind)

    def _scene(self, face: NormalFace, rng: np.random.Generator) -> Scene:
        kind = float(rng.random())
        if kind < _SHARES[0]:
            if rng.random() < 0.2:
                face = with_anomaly(face, self.anomalies, rng)[0]
            weights = np.array([_OFTEN.get(name, 1.0) for name in OCCLUDERS])
            count = 1 + int(rng.random() < 0.12)
            names = rng.choice(list(OCCLUDERS), count, replace=False, p=weights / weights.sum())
            return with_occluders(face, [str(name) for name in names], rng)
        if kind < _SHARES[0] + _SHARES[1]:
            changed, name = with_anomaly(face, self.anomalies, rng)
            return _bare(changed, name)
        if kind < sum(_SHARES):
            name = str(rng.choice(list(HARMLESS)))
            stage = stage_of(face.image, face.landmarks)
            image = compose(stage, _softened(HARMLESS[name](stage, rng), rng))
            return _bare(_with_image(face, image), name)
        return _bare(face, "plain")

    def _own(self, face: NormalFace, scene: Scene) -> tuple[Field, Field]:
        """Cover and weight with what an earlier round saw before the face itself."""
        weight = scene.weight * face_weight(face.landmarks)
        if self.look is None:
            return scene.covered, weight
        seen = cv2.resize(self.look(face.image), (INPUT_SIZE, INPUT_SIZE))
        sure = np.asarray(_large(seen > _SURE), np.float32)
        covered = np.maximum(scene.covered, sure)
        doubtful = (seen > _DOUBTFUL) & (covered < 0.5)
        return covered, np.where(doubtful, _DOUBTFUL_WEIGHT * weight, weight).astype(np.float32)


def small_face(pool: FacePool, number: int) -> NormalFace:
    """A face of a pool as the gate sees it: reduced by averaging, never enlarged from a finer one."""
    archive, index = pool.members[number]
    face = pool.archives[archive].face(index)
    side = face.image.shape[0]
    if side == INPUT_SIZE:
        return face
    way = cv2.INTER_AREA if side > INPUT_SIZE else cv2.INTER_CUBIC
    image = np.asarray(cv2.resize(face.image, (INPUT_SIZE, INPUT_SIZE), interpolation=way), np.uint8)
    scale = INPUT_SIZE / side
    return _with_image(face, image, ((face.landmarks + 0.5) * scale - 0.5).astype(np.float32))


def _with_image(face: NormalFace, image: Image, landmarks: Field | None = None) -> NormalFace:
    return NormalFace(
        image=image,
        landmarks=face.landmarks if landmarks is None else landmarks,
        identity=face.identity,
        source=face.source,
        age=face.age,
        gender=face.gender,
        race=face.race,
    )


def _bare(face: NormalFace, kind: str) -> Scene:
    shape = face.image.shape[:2]
    return Scene(
        image=face.image, covered=np.zeros(shape, np.float32), weight=np.ones(shape, np.float32), kind=kind
    )


def with_anomaly(
    face: NormalFace, makers: Mapping[str, Maker], rng: np.random.Generator, severity: float | None = None
) -> tuple[NormalFace, str]:
    """The face with a random anomaly, and the anomaly's name."""
    name = str(rng.choice(list(makers)))
    unit = inter_ocular_distance(face.landmarks)
    canvas = Canvas(image=face.image, landmarks=face.landmarks, unit=unit)
    strength = float(rng.uniform(0.3, 1.0)) if severity is None else severity
    return _with_image(face, render(face.image, makers[name](canvas, strength, rng)).image), name


def with_occluders(face: NormalFace, names: list[str], rng: np.random.Generator) -> Scene:
    """The face with things before it, the last in front."""
    covered = np.zeros(face.image.shape[:2], np.float32)
    weight = np.ones_like(covered)
    for name in names:
        stage = stage_of(face.image, face.landmarks)
        cover = _softened(OCCLUDERS[name](stage, rng), rng)
        face = _with_image(face, compose(stage, cover))
        seen = cover.covered
        if name == "hair":  # hair above the brows is neither here nor there
            below = brow_line(stage)
            weight = weight * (1 - (seen > 0.1) * (1 - below))
            seen = seen * below
        covered = np.maximum(covered, seen)
    return Scene(image=face.image, covered=covered, weight=weight.astype(np.float32), kind="+".join(names))


def _softened(cover: Cover, rng: np.random.Generator) -> Cover:
    """As sharp as a face out of focus or of few pixels, so that a sharp edge tells nothing."""
    if rng.random() < 0.4:
        return cover
    sigma = float(rng.uniform(0.3, 1.3))
    alpha = blurred(cover.alpha, sigma)
    colour = np.asarray(cv2.GaussianBlur(cover.colour, (0, 0), sigma), np.float32)
    return Cover(alpha=alpha, colour=colour, covered=cover.covered, shade=cover.shade)


def face_weight(landmarks: Field) -> Field:
    """1 on the face, little elsewhere, (128, 128) float32."""
    plane = np.zeros((INPUT_SIZE, INPUT_SIZE), np.uint8)
    cv2.fillPoly(plane, [np.rint(landmarks[list(OVAL)]).astype(np.int32)], (1.0,))
    on_face = cv2.dilate(plane, np.ones((5, 5), np.uint8)).astype(np.float32)
    return np.asarray(_OFF_FACE_WEIGHT + (1 - _OFF_FACE_WEIGHT) * on_face, np.float32)


def _large(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Connected areas of some size."""
    scale = (INPUT_SIZE // OUTPUT_SIZE) ** 2
    _, labels, figures, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    keep = figures[:, cv2.CC_STAT_AREA] >= _LEAST_SURE_CELLS * scale
    keep[0] = False
    return np.asarray(keep[labels], np.bool_)


def _placed(
    image: Image, covered: Field, weight: Field, place: Field, *, flip: bool
) -> tuple[Image, Field, Field]:
    size = (INPUT_SIZE, INPUT_SIZE)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    out = cv2.warpAffine(image, place, size, flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    planes = cv2.warpAffine(np.dstack([covered, weight]), place, size, flags=flags)
    if flip:
        out, planes = out[:, ::-1], planes[:, ::-1]
    return (
        np.ascontiguousarray(out, np.uint8),
        np.ascontiguousarray(planes[..., 0], np.float32),
        np.ascontiguousarray(planes[..., 1], np.float32),
    )


def collate(scenes: list[Scene]) -> Batch:
    """Stack scenes."""
    side = (OUTPUT_SIZE, OUTPUT_SIZE)

    def planes(which: list[Field]) -> Tensor:
        return torch.from_numpy(
            np.stack([cv2.resize(p, side, interpolation=cv2.INTER_AREA) for p in which])[:, None]
        )

    images = np.stack([scene.image for scene in scenes]).transpose(0, 3, 1, 2)
    return Batch(
        images=torch.from_numpy(np.ascontiguousarray(images)),
        covered=planes([scene.covered for scene in scenes]),
        weight=planes([scene.weight for scene in scenes]),
    )
