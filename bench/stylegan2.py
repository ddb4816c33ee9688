"""Algorithms 1 and 2 of paper 000 on held-out faces, with figures and a contact sheet.

Run: ``python bench/stylegan2.py --generator FILE --data DIR --model-dir DIR --sheet FILE.png``. Rows of
the sheet: faces, projected, adapted. A latent drawn by the generator itself is searched for as well.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from service.appraisal.methods.features.backbones import BACKBONES, build_network
from service.appraisal.methods.stylegan2.generator import Generator, load_generator
from service.appraisal.methods.stylegan2.normaliser import LOSS_BACKBONE, LOSS_WEIGHTS
from service.appraisal.methods.stylegan2.projection import (
    AdaptationSettings,
    PerceptualLoss,
    ProjectionSettings,
    adapt,
    project,
)
from service.appraisal.methods.stylegan2.recovery import recovery
from service.appraisal.model_files.models import ModelStore
from service.training.faces import Split, open_pool


def held_out(data: Path, count: int, size: int) -> Tensor:
    """(count, 3, size, size) float32, -1..1: faces of the test split."""
    pool = open_pool(data, Split.TEST, fine_only=True)
    chosen = np.random.default_rng(0).permutation(len(pool))[:count]
    small = [
        cv2.resize(pool.face(int(i), 256).image, (size, size), interpolation=cv2.INTER_AREA) for i in chosen
    ]
    return torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float() / 127.5 - 1


def perceptual_loss(store: ModelStore) -> PerceptualLoss:
    """LPIPS, as the normaliser uses it."""
    backbone, learned = BACKBONES[LOSS_BACKBONE], store.tensors(LOSS_WEIGHTS)
    network = build_network(backbone, store.tensors(backbone.model), len(backbone.ends))
    return PerceptualLoss(network, [learned[f"layer{i}"] for i in range(len(backbone.ends))])


def known_latents(generator: Generator, loss: PerceptualLoss, settings: ProjectionSettings) -> None:
    """Search for latents that the generator itself drew, and say how far each search ended."""
    draws = torch.Generator().manual_seed(11)
    with torch.no_grad():
        w = generator.map(torch.randn(4, generator.shape.style_dim, generator=draws))
        noise = generator.draw_noise(4, draws, "cpu")
        pictures = generator.synthesise(w, noise)
    found = project(generator, loss, pictures.clamp(-1, 1), settings)
    mean, _ = generator.mean_latent(settings.mean_draws)
    left = recovery(generator, found.w, w, noise, mean=mean)
    print(
        f"known latents, {len(found.losses)} steps, {settings.starts} starts: image loss "
        f"{found.losses[0]:.3f} to {found.losses[-1]:.3f}; left of the way from the mean"
    )
    for name in ("w", "seen", "plainest", "picture"):
        print(f"  {name}: {', '.join(f'{float(value):.2f}' for value in getattr(left, name))}")


def main() -> None:
    """Project, adapt, print figures and draw the sheet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--generator", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of faces_*.npz")
    parser.add_argument("--model-dir", type=Path, required=True, help="directory with SqueezeNet")
    parser.add_argument("--sheet", type=Path, required=True, help="the .png to write")
    parser.add_argument("--faces", type=int, default=8)
    parser.add_argument("--steps", type=int, default=150, help="of Algorithm 1; half of them of Algorithm 2")
    parser.add_argument("--known-steps", type=int, default=400, help="of the search for known latents")
    parser.add_argument("--starts", type=int, default=256, help="latents drawn to begin that search with")
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator, loss = load_generator(options.generator), perceptual_loss(ModelStore(options.model_dir))
    faces = held_out(options.data, options.faces, generator.shape.size)
    settings = ProjectionSettings(steps=options.steps)
    found = project(generator, loss, faces, settings)
    print(f"image loss, mean of {len(faces)} faces: {found.losses[0]:.3f} to {found.losses[-1]:.3f}")
    adapted = []
    for index in range(len(faces)):
        one = slice(index, index + 1)
        own = replace(found, w=found.w[one], noise=tuple(n[one] for n in found.noise))
        picture, _ = adapt(generator, loss, faces[one], own, AdaptationSettings(steps=options.steps // 2))
        adapted.append(picture)
    rows = {"projected": found.pictures, "adapted": torch.cat(adapted)}
    for name, made in rows.items():
        with torch.no_grad():
            lpips = loss.distance(loss.features(made), loss.features(faces))
        squared = (made - faces).square().mean((1, 2, 3))
        for figure, values in (("LPIPS", lpips), ("squared error", squared)):
            print(f"{name}: {figure} {', '.join(f'{float(v):.3f}' for v in values)}")
    known = ProjectionSettings(steps=options.known_steps, starts=options.starts, window=options.known_steps)
    known_latents(generator, loss, known)
    table = torch.cat([torch.cat(list(row), 2) for row in (faces, *rows.values())], 1)
    sheet = ((table.permute(1, 2, 0) + 1) * 127.5).clamp(0, 255).byte().numpy()[..., ::-1]
    cv2.imwrite(str(options.sheet), cv2.resize(sheet, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC))


if __name__ == "__main__":
    main()
