"""The method of paper 000: the closest face of a StyleGAN2 generator, adapted to the patient.

Needs a generator, `stylegan2-face` in a manifest: one trained on faces in our canonical square,
or, for the row `stylegan2-ffhq`, one trained on FFHQ, whose crop is a fixed part of that square.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from service.appraisal.face.alignment import AlignedFace, warp
from service.appraisal.methods.features.backbones import BACKBONES, build_network
from service.appraisal.tables import Normalised, Normaliser, NormaliserRow, Progress, Workplace, unwatched
from service.errors import ModelIntegrityError

if TYPE_CHECKING:
    from service.appraisal.methods.stylegan2.generator import Generator
    from service.appraisal.methods.stylegan2.projection import (
        AdaptationSettings,
        PerceptualLoss,
        ProjectionSettings,
    )

MODEL = "stylegan2-face"
LOSS_BACKBONE, LOSS_WEIGHTS = "squeezenet", "lpips-0.1-squeeze"
LEAST_SIDE = 32  # pixels of a generator's pictures; of smaller ones the network's last layers see nothing


@dataclass(frozen=True, kw_only=True)
class Framing:
    """Where a generator's square lies in our canonical one, in parts of its side."""

    side: float = 1.0
    centre: tuple[float, float] = (0.5, 0.5)

    def matrix(self, canonical: int, size: int) -> NDArray[np.float64]:
        """(2, 3) float64: pixels of the canonical square -> pixels of the generator's."""
        scale = size / (self.side * canonical)
        left, top = (c * canonical - self.side * canonical / 2 for c in self.centre)
        # Pixel centres: u + 1/2 = (x + 1/2 - left) * scale.
        return np.array(
            [[scale, 0, (0.5 - left) * scale - 0.5], [0, scale, (0.5 - top) * scale - 0.5]], dtype=np.float64
        )


# FFHQ's crop (Karras et al. 2019) with our canonical points: x = (.36 + .365) along the eyes, of
# length 2 * .36; the square is twice that, centred a tenth of the way from the eyes to the mouth.
FFHQ_FRAMING = Framing(side=1.44, centre=(0.5, 0.38 + 0.1 * 0.365))


@dataclass(frozen=True, kw_only=True, eq=False)
class StyleGan2Normaliser:
    """Algorithm 1, then, unless left out, Algorithm 2."""

    generator: Generator
    loss: PerceptualLoss
    projection: ProjectionSettings
    adaptation: AdaptationSettings | None  # None: the projected face is the result
    framing: Framing = field(default_factory=Framing)
    device: str = "cpu"
    progress: Progress = unwatched  # called with the steps done and those there are at most

    def normalise(self, faces: Sequence[AlignedFace]) -> Sequence[Normalised]:
        """Return the generator's counterpart of each face; Algorithm 1 runs on all together."""
        import torch

        from service.appraisal.methods.stylegan2.projection import adapt, project

        size = self.generator.shape.size
        frames = [self.framing.matrix(face.size, size) for face in faces]
        crops = [_crop(face, frame, size) for face, frame in zip(faces, frames, strict=True)]
        stacked = torch.from_numpy(np.stack(crops)).to(self.device).permute(0, 3, 1, 2)
        pictures = stacked.float() / 127.5 - 1
        own_steps = 0 if self.adaptation is None else self.adaptation.steps
        total = self.projection.steps + len(faces) * own_steps
        found = project(
            self.generator, self.loss, pictures, self.projection, progress=self._part_of(total, 0)
        )
        results = []
        for index, (face, frame) in enumerate(zip(faces, frames, strict=True)):
            one = slice(index, index + 1)
            made = found.pictures[one]
            if self.adaptation is not None:
                own = replace(found, w=found.w[one], noise=tuple(n[one] for n in found.noise), pictures=made)
                before = self.projection.steps + index * own_steps
                watched = self._part_of(total, before)
                made, _ = adapt(
                    self.generator, self.loss, pictures[one], own, self.adaptation, progress=watched
                )
            rgb = ((made[0].permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).byte().cpu().numpy()
            results.append(_back(np.asarray(rgb, dtype=np.uint8), frame, face.size))
        self.progress(total, total)
        return results

    def _part_of(self, total: int, before: int) -> Progress:
        """Progress of one search, as part of the steps of all."""
        return lambda done, _: self.progress(before + done, total)


def _crop(face: AlignedFace, frame: NDArray[np.float64], size: int) -> NDArray[np.uint8]:
    whole = np.vstack([frame, [0, 0, 1]]) @ np.vstack([face.matrix, [0, 0, 1]])
    return warp(face.photograph.rgb, whole[:2], (size, size))[0]


def _back(rgb: NDArray[np.uint8], frame: NDArray[np.float64], size: int) -> Normalised:
    """Bring the generator's picture to the canonical square."""
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    picture = cv2.warpAffine(rgb, frame, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    known = cv2.warpAffine(
        np.ones(rgb.shape[:2], np.uint8), frame, (size, size), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    )
    return Normalised(rgb=np.asarray(picture, dtype=np.uint8), valid=np.asarray(known).astype(bool))


def _build(workplace: Workplace, *, framing: Framing, adapted: bool, w_plus: bool) -> Normaliser:
    from service.appraisal.methods.stylegan2.generator import generator_from
    from service.appraisal.methods.stylegan2.projection import (
        AdaptationSettings,
        PerceptualLoss,
        ProjectionSettings,
    )

    store = workplace.store
    generator = generator_from(store.tensors(MODEL, key="g_ema"))
    if generator.shape.size < LEAST_SIDE:
        raise ModelIntegrityError(
            f"{MODEL} draws {generator.shape.size} px; LPIPS needs {LEAST_SIDE} at the least"
        )
    backbone = BACKBONES[LOSS_BACKBONE]
    learned = store.tensors(LOSS_WEIGHTS)
    network = build_network(backbone, store.tensors(backbone.model), len(backbone.ends))
    weights = [learned[f"layer{index}"] for index in range(len(backbone.ends))]
    return StyleGan2Normaliser(
        generator=generator.to(workplace.device),
        loss=PerceptualLoss(network, weights, workplace.device),
        projection=ProjectionSettings(w_plus=w_plus),
        adaptation=AdaptationSettings() if adapted else None,
        framing=framing,
        device=workplace.device,
        progress=workplace.progress,
    )


def _row(name: str, *, framing: Framing, adapted: bool, w_plus: bool) -> NormaliserRow:
    return NormaliserRow(
        name=name,
        version="2",
        models=(MODEL, BACKBONES[LOSS_BACKBONE].model, LOSS_WEIGHTS),
        build=partial(_build, framing=framing, adapted=adapted, w_plus=w_plus),
    )


# Both generators with every ablation: with and without W+, with and without adaptation.
ROWS = tuple(
    _row(
        stem + ("-wplus" if w_plus else "") + ("" if adapted else "-projected"),
        framing=framing,
        adapted=adapted,
        w_plus=w_plus,
    )
    for stem, framing in (("stylegan2", Framing()), ("stylegan2-ffhq", FFHQ_FRAMING))
    for w_plus in (False, True)
    for adapted in (True, False)
)
