"""The claims of paper 000 on synthetic anomalies: every comparator with every normaliser.

Run: ``python bench/comparators.py --data DIR --model-dir DIR [--generator FILE] [--out FILE.md]``;
``--normalisers NAMES`` measures some columns only.
Held-out faces, each as a sham and with anomalies of drawn severity; Pearson correlation of the
score, over the whole face, with the severity, and 95 % intervals by resampling faces. Compared in
pairs, on the same faces: unweighted with LPIPS-weighted maps, layer by layer. Synthetic validity,
no human judgement.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from service.appraisal.anomalies import NAMED, Canvas, inter_ocular_distance, render
from service.appraisal.face.alignment import AlignedFace, align
from service.appraisal.face.finder import Face
from service.appraisal.face.pose import Pose
from service.appraisal.face.regions import region_masks
from service.appraisal.methods.features.backbones import BACKBONES, build_network
from service.appraisal.methods.features.deep import LPIPS_POWER, DeepComparator, DeepSettings
from service.appraisal.methods.features.patchcore import PatchCoreComparator, load_features
from service.appraisal.methods.pixels.comparators import dissimilarity, multiscale, pixel_error
from service.appraisal.methods.stylegan2.generator import load_generator
from service.appraisal.methods.stylegan2.normaliser import LOSS_BACKBONE, LOSS_WEIGHTS, StyleGan2Normaliser
from service.appraisal.methods.stylegan2.projection import (
    AdaptationSettings,
    PerceptualLoss,
    ProjectionSettings,
)
from service.appraisal.model_files.models import ModelStore
from service.appraisal.photograph.decode import photograph_from_rgb
from service.appraisal.registry import NORMALISERS
from service.appraisal.score import score
from service.appraisal.tables import Normalised, Workplace
from service.records import Region
from service.training.faces import Split, open_pool
from service.training.patchcore import fit_bank

SIZE = 256
CHANGED = 3  # pictures with an anomaly for each face
WOBBLE_PX = 0.4
DRAWS = 2000
SHORT = {"alexnet": "alex", "squeezenet": "squeeze", "vgg16": "vgg"}

Maps = dict[str, list[NDArray[np.float32]]]  # comparator -> one (S, S) map a picture


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """One picture to be judged."""

    subject: int
    severity: float  # 0 for a sham
    face: AlignedFace
    sham: NDArray[np.uint8]  # the same face without anomaly, resampled at another sub-pixel shift


def make_pictures(data: Path, faces: int, seed: int) -> list[Picture]:
    """Shams and changed pictures of held-out faces."""
    pool = open_pool(data, Split.TEST, fine_only=True)
    chosen = np.random.default_rng(seed).permutation(len(pool))[:faces]
    kinds = list(NAMED)
    pictures = []
    for subject, number in enumerate(chosen):
        face = pool.face(int(number), SIZE)
        rng = np.random.default_rng((seed, subject))
        unit = inter_ocular_distance(face.landmarks)
        canvas = Canvas(image=face.image, landmarks=face.landmarks, unit=unit)
        other = render(face.image, None, _shift(rng)).image
        for turn in range(CHANGED + 1):
            severity = float(rng.uniform(0.2, 1.0)) if turn else 0.0
            kind = kinds[(CHANGED * subject + turn) % len(kinds)]
            change = NAMED[kind](canvas, severity, rng) if turn else None
            image = render(face.image, change, _shift(rng)).image
            pictures.append(
                Picture(subject=subject, severity=severity, face=_aligned(image, face.landmarks), sham=other)
            )
    return pictures


def _shift(rng: np.random.Generator) -> NDArray[np.float32]:
    x, y = rng.uniform(-WOBBLE_PX, WOBBLE_PX, 2)
    return np.array([[1, 0, x], [0, 1, y]], np.float32)


def _aligned(image: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> AlignedFace:
    mesh = np.concatenate([landmarks.astype(np.float64), np.zeros((len(landmarks), 1))], axis=1)
    return align(
        photograph_from_rgb(image), Face(mesh=mesh, pose=Pose(yaw_deg=0.0, pitch_deg=0.0, roll_deg=0.0)), SIZE
    )


def counterparts(
    pictures: Sequence[Picture], store: ModelStore, generator: Path | None, steps: int
) -> Mapping[str, Callable[[], list[Normalised]]]:
    """Every normaliser, to be run one after the other."""
    faces = [picture.face for picture in pictures]
    place = Workplace(store=store, size=SIZE)

    def row(name: str) -> list[Normalised]:
        return list(NORMALISERS[name].build(place).normalise(faces))

    def oracle() -> list[Normalised]:
        return [
            Normalised(
                rgb=np.asarray(cv2.warpAffine(p.sham, p.face.matrix, (SIZE, SIZE)), np.uint8),
                valid=p.face.inside,
            )
            for p in pictures
        ]

    found: dict[str, Callable[[], list[Normalised]]] = {
        "oracle": oracle,
        "symmetry": lambda: row("symmetry"),
        "restoration": lambda: row("restoration"),
    }
    if generator is not None:
        for name, adapted in (("stylegan2-projected", False), ("stylegan2", True)):
            own = _stylegan2(store, generator, steps, adapted=adapted)
            found[name] = lambda own=own: list(own.normalise(faces))  # type: ignore[misc]
    return found


def _stylegan2(store: ModelStore, generator: Path, steps: int, *, adapted: bool) -> StyleGan2Normaliser:
    backbone = BACKBONES[LOSS_BACKBONE]
    learned = store.tensors(LOSS_WEIGHTS)
    network = build_network(backbone, store.tensors(backbone.model), len(backbone.ends))
    return StyleGan2Normaliser(
        generator=load_generator(generator),
        loss=PerceptualLoss(network, [learned[f"layer{i}"] for i in range(len(backbone.ends))]),
        projection=ProjectionSettings(steps=steps),
        adaptation=AdaptationSettings(steps=steps // 3) if adapted else None,
    )


class Comparators:
    """Every comparator whose model files are there; the layers of one network in one pass."""

    def __init__(self, store: ModelStore, bank: torch.Tensor, backbones: Sequence[str]) -> None:
        self._deep: dict[str, DeepComparator] = {}
        for name in backbones:
            tensors = store.tensors(BACKBONES[name].model)
            network = build_network(BACKBONES[name], tensors, len(BACKBONES[name].ends))
            self._deep[f"deep-{name}"] = DeepComparator(network, DeepSettings())
            self._deep[f"deep-{name}-unit"] = DeepComparator(network, DeepSettings(unit=True))
            if name in SHORT:
                learned = store.tensors(f"lpips-0.1-{SHORT[name]}")
                weights = [learned[f"layer{i}"] for i in range(len(network))]
                settings = DeepSettings(unit=True, power=LPIPS_POWER)
                self._deep[f"lpips-{name}"] = DeepComparator(network, settings, weights=weights)
        self._patchcore = PatchCoreComparator(load_features(Workplace(store=store)), bank)

    def maps(self, face: AlignedFace, other: Normalised) -> dict[str, NDArray[np.float32]]:
        """Difference maps of one face by every comparator."""
        one, two = face.rgb.astype(np.float32), other.rgb.astype(np.float32)
        found = {
            "pse": pixel_error(one, two),
            "ssim": dissimilarity(one, two),
            "multiscale": multiscale(one, two),
        }
        (found["patchcore"],) = self._patchcore.compare([face], [other])
        a, b = (torch.from_numpy(p).permute(2, 0, 1)[None] / 255 for p in (one, two))
        for name, comparator in self._deep.items():
            parts, filters = comparator.layer_maps(a, b)
            share = 1 if name.startswith("lpips") else sum(filters)
            found[name] = (torch.stack(parts).sum(0) / share)[0].numpy()
            for number, (part, count) in enumerate(zip(parts, filters, strict=True), start=1):
                own = 1 if name.startswith("lpips") else count
                found[f"{name}-l{number}"] = (part / own)[0].numpy()
        return found


def scores_of(
    pictures: Sequence[Picture], others: Sequence[Normalised], comparators: Comparators
) -> dict[str, NDArray[np.float64]]:
    """Score of every picture by every comparator, higher = more normal."""
    found: dict[str, list[float]] = {}
    for picture, other in zip(pictures, others, strict=True):
        mask = region_masks(picture.face.landmarks, (SIZE, SIZE))[Region.FACE]
        where = mask & picture.face.inside & other.valid
        for name, difference in comparators.maps(picture.face, other).items():
            value = score(difference, where)
            assert value is not None, f"picture of {picture.subject}: nothing to judge"
            found.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in found.items()}


def pearson(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Along the last axis; NaN where one of them does not vary."""
    x, y = x - x.mean(-1, keepdims=True), y - y.mean(-1, keepdims=True)
    spread = np.sqrt((x**2).sum(-1) * (y**2).sum(-1))
    found: NDArray[np.float64] = (x * y).sum(-1) / np.where(spread > 0, spread, np.nan)
    return found


def resampled(subjects: int, seed: int) -> NDArray[np.int64]:
    """(DRAWS, pictures): whole faces drawn again and again."""
    faces = np.random.default_rng(seed).integers(0, subjects, (DRAWS, subjects))
    each = CHANGED + 1
    return (faces[:, :, None] * each + np.arange(each)).reshape(DRAWS, -1)


def interval(values: NDArray[np.float64]) -> str:
    """95 %, of the draws that have a correlation."""
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return f"{low:.2f} to {high:.2f}"


def report(
    by_normaliser: Mapping[str, Mapping[str, NDArray[np.float64]]], pictures: Sequence[Picture], seed: int
) -> str:
    """The tables as Markdown."""
    normality = 1 - np.array([p.severity for p in pictures], np.float64)
    rows = resampled(1 + max(p.subject for p in pictures), seed)
    drawn = {
        normaliser: {name: pearson(values[rows], normality[rows]) for name, values in scores.items()}
        for normaliser, scores in by_normaliser.items()
    }
    names = list(next(iter(by_normaliser.values())))
    lines = [f"| comparator | {' | '.join(by_normaliser)} |", f"|---|{'---|' * len(by_normaliser)}"]
    tops = {n: max(names, key=lambda c: pearson(s[c], normality)) for n, s in by_normaliser.items()}
    for name in names:
        cells = []
        for normaliser, scores in by_normaliser.items():
            bold = "**" if tops[normaliser] == name else ""
            figure = f"{bold}{pearson(scores[name], normality):.2f}{bold}"
            cells.append(f"{figure} ({interval(drawn[normaliser][name])})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "Unweighted less LPIPS-weighted, same faces:", ""]
    lines += [f"| layers | {' | '.join(by_normaliser)} |", f"|---|{'---|' * len(by_normaliser)}"]
    for name in (n for n in names if n.startswith("lpips-")):
        cells = []
        for normaliser, scores in by_normaliser.items():
            plain = name.replace("lpips", "deep", 1)
            gain = pearson(scores[plain], normality) - pearson(scores[name], normality)
            cells.append(f"{gain:+.2f} ({interval(drawn[normaliser][plain] - drawn[normaliser][name])})")
        lines.append(f"| {name.removeprefix('lpips-')} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Make the pictures, run every pair and write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of faces_*.npz")
    parser.add_argument("--model-dir", type=Path, required=True, help="directory with the backbones")
    parser.add_argument("--generator", type=Path, help="StyleGAN2 generator of aligned faces")
    parser.add_argument("--normalisers", help="only these, by commas; all by default")
    parser.add_argument("--backbones", default="squeezenet,mobilenet-ptq", help="names, by commas")
    parser.add_argument("--faces", type=int, default=20)
    parser.add_argument(
        "--steps", type=int, default=150, help="of Algorithm 1; a third of them of Algorithm 2"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="file for the tables, with .csv beside it for the scores")
    options = parser.parse_args()
    torch.set_num_threads(1)
    store = ModelStore(options.model_dir)
    pictures = make_pictures(options.data, options.faces, options.seed)
    bank = fit_bank(load_features(Workplace(store=store)), open_pool(options.data, Split.TRAIN), 150, 1000)
    comparators = Comparators(store, bank, options.backbones.split(","))
    scores: dict[str, dict[str, NDArray[np.float64]]] = {}
    makers = counterparts(pictures, store, options.generator, options.steps)
    chosen = options.normalisers.split(",") if options.normalisers else list(makers)
    if unknown := set(chosen) - set(makers):
        parser.error(f"no such normaliser: {', '.join(sorted(unknown))}; there are {', '.join(makers)}")
    for name in chosen:
        start = time.monotonic()
        others = makers[name]()
        between = time.monotonic()
        scores[name] = scores_of(pictures, others, comparators)
        spent = time.monotonic() - between
        print(f"{name}: {between - start:.0f} s normalising, {spent:.0f} s comparing", flush=True)
    tables = report(scores, pictures, options.seed)
    print(tables)
    if options.out is not None:
        options.out.write_text(tables, encoding="utf-8")
        with options.out.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["normaliser", "comparator", "subject", "severity", "score"])
            for normaliser, by_comparator in scores.items():
                for comparator, values in by_comparator.items():
                    for picture, value in zip(pictures, values, strict=True):
                        writer.writerow([normaliser, comparator, picture.subject, picture.severity, value])


if __name__ == "__main__":
    main()
