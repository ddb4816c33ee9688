"""Trains the occlusion gate's network: ``python -m service.training.occlusion.train --help``.

In rounds, because the archives' faces hold glasses, hands and hair that nobody labelled. The first
round takes them for uncovered, with little weight where the network disagrees. In every later round
the network as it then is looks at each face before something is laid on it: what it is sure of
becomes a label, what it doubts hardly counts. Thresholds are calibrated and everything is measured by
service/training/occlusion/occlusion_release.py.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from service.appraisal.anomalies import RANDOM, named_types, read_lip_shapes
from service.appraisal.gates.occlusion_network import ENCODER_LAYERS, OcclusionNetwork
from service.appraisal.model_files.models import ModelStore
from service.training.faces import Split, open_pool
from service.training.loop import Course, cosine
from service.training.occlusion.occluders.stage import Field, Image
from service.training.occlusion.occlusion_examples import Batch, Scene, SceneMaker, collate
from service.training.occlusion.occlusion_release import release
from service.training.schedule import save_halves, write_row

_ENCODER = "squeezenet1_1-imagenet"
_FROZEN_LAYERS = 5  # of the encoder: edges and colours
_HARDEST = 24  # cells of each picture whose loss counts once more
_WARM_UP = 60
_LAST_RATE = 0.02  # of the peak
_KEPT_SCENES = 600
_DOUBTED = 0.5  # probability from which an unlabelled natural pixel counts little in the first round


@dataclass(frozen=True, kw_only=True)
class OcclusionPlan:
    """How to train; everything that decides the weights."""

    out: Path  # folder for checkpoint, log and weights
    encoder: Path  # SqueezeNet 1.1 weights (safetensors)
    minutes: tuple[float, ...] = (12.0, 9.0)  # of the processor, of each round
    scenes: int = 8  # made for each step
    again: int = 16  # earlier scenes shown again in each step
    frozen: bool = False  # whether the encoder stays as it is; less than half the work
    learning_rate: float = 2.0e-3
    encoder_rate: float = 0.25  # relative
    threads: int = 1
    seed: int = 11
    save_every: int = 50


def _encoder_weights(path: Path) -> dict[str, Tensor]:
    """The first layers of SqueezeNet 1.1, under the names of its ``features``."""
    layers = {name.removeprefix("features."): value.float() for name, value in load_file(path).items()}
    return {
        name: value
        for name, value in layers.items()
        if name.split(".")[0].isdigit() and int(name.split(".")[0]) < ENCODER_LAYERS
    }


class OcclusionTrainer:
    """The network on its way, in rounds that each have their time of the processor."""

    def __init__(self, plan: OcclusionPlan) -> None:
        """Start anew, or from the checkpoint in ``plan.out``."""
        torch.set_num_threads(plan.threads)
        torch.manual_seed(plan.seed)
        self._plan = plan
        network = OcclusionNetwork()
        network.encoder.load_state_dict(_encoder_weights(plan.encoder))
        network.to(memory_format=torch.channels_last)
        network.encoder[: ENCODER_LAYERS if plan.frozen else _FROZEN_LAYERS].requires_grad_(False)
        encoder = [p for p in network.encoder.parameters() if p.requires_grad]
        own = {id(p) for p in network.encoder.parameters()}
        rest = [p for p in network.parameters() if id(p) not in own]
        optimiser = torch.optim.AdamW(
            [{"params": rest, "relative": 1.0}, {"params": encoder, "relative": plan.encoder_rate}],
            lr=plan.learning_rate,
            weight_decay=0.02,
        )
        self._course = Course(network, optimiser, plan.out / "checkpoint.pt")
        self._course.more = {"round": 0, "spent_s": 0.0, **self._course.more}

    @property
    def average(self) -> OcclusionNetwork:
        """The network with the average of its weights."""
        return self._course.average

    @property
    def step(self) -> int:
        """Steps taken."""
        return self._course.step

    @property
    def round(self) -> int:
        """Rounds that are done."""
        return int(self._course.more["round"])

    def save(self) -> None:
        """Write the checkpoint and the averaged weights in half precision."""
        self._course.save()
        save_halves(self.average.state_dict(), self._plan.out / "network.safetensors")

    def run(self, maker: SceneMaker) -> None:
        """Train one round; continues where a checkpoint of this round left off."""
        more = self._course.more
        limit_s = 60 * self._plan.minutes[self.round]
        rng = np.random.default_rng((self._plan.seed, self.step))
        recent: list[float] = []
        kept: deque[Scene] = deque(maxlen=_KEPT_SCENES)
        while more["spent_s"] < limit_s:
            began = time.process_time()
            fresh = [maker.draw(rng) for _ in range(self._plan.scenes)]
            again = [kept[int(i)] for i in rng.integers(len(kept), size=self._plan.again)] if kept else []
            kept.extend(fresh)
            recent.append(self._learn(collate(fresh + again), more["spent_s"] / limit_s))
            more["spent_s"] += time.process_time() - began
            self._course.count()
            if self.step % self._plan.save_every == 0:
                figures = {"round": more["round"], "seconds": more["spent_s"], "loss": float(np.mean(recent))}
                write_row(self._plan.out / "log.csv", self.step, figures)
                recent.clear()
                self.save()
        more["round"], more["spent_s"] = self.round + 1, 0.0
        self.save()

    def _learn(self, batch: Batch, done: float) -> float:
        peak = self._plan.learning_rate * (1.0 if self.round == 0 else 0.6)
        network = self._course.module
        network.train()
        images = batch.images.float().div(255).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            with torch.set_grad_enabled(not self._plan.frozen):
                features = network.encode(images)
            logits = network.decode(features)
        value = loss(logits, batch, lenient=self.round == 0 and self.step > 3 * _WARM_UP)
        rate = cosine(done, self.step + 1, peak=peak, last=_LAST_RATE, warm_up=_WARM_UP)
        self._course.learn(value, rate)
        return float(value.detach())


def loss(logits: Tensor, batch: Batch, *, lenient: bool) -> Tensor:
    """Cross-entropy of every cell, of each picture's hardest uncovered cells once more, and overlap.

    Args:
        logits: (B, 1, 64, 64).
        batch: what is true.
        lenient: whether uncovered cells that the network is sure are covered count little.
    """
    weight = batch.weight
    bare = batch.covered < 0.5
    if lenient:
        doubted = bare & (logits.detach().sigmoid() > _DOUBTED)
        weight = torch.where(doubted, 0.25 * weight, weight)
    each = torch.nn.functional.binary_cross_entropy_with_logits(logits, batch.covered, reduction="none")
    mean = (each * weight).sum() / weight.sum()
    hardest = (each * weight * bare).flatten(1).topk(_HARDEST, dim=1).values.mean()
    chance = logits.sigmoid() * weight
    true = batch.covered * weight
    held = true.sum((1, 2, 3)) > 20
    overlap = 1 - (2 * (chance * batch.covered).sum((1, 2, 3)) + 1) / (
        chance.sum((1, 2, 3)) + true.sum((1, 2, 3)) + 1
    )
    dice = overlap[held].mean() if bool(held.any()) else overlap.sum() * 0
    return mean + 0.15 * hardest + 0.3 * dice


def looker(network: torch.nn.Module) -> Callable[[Image], Field]:
    """What a network sees before a face: (128, 128, 3) uint8 -> (64, 64) float32, 0..1."""

    def look(image: Image) -> Field:
        network.eval()
        face = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            chance = network(face.float().div(255).contiguous(memory_format=torch.channels_last)).sigmoid()
        return np.asarray(chance[0, 0].float().numpy(), np.float32)

    return look


def train(plan: OcclusionPlan, data: Path, lip_shapes: Path) -> Path:
    """Train both rounds and return the weights (safetensors, half precision).

    Args:
        plan: how.
        data: folder of ``faces_*.npz``; the training split is used.
        lip_shapes: folder of the lips of repaired clefts, for the anomaly lt-v2.

    Raises:
        ConfigurationError: archives or lip shapes are missing.
    """
    plan.out.mkdir(parents=True, exist_ok=True)
    pool = open_pool(data, Split.TRAIN)
    anomalies = {**named_types(read_lip_shapes(lip_shapes)), **RANDOM}
    trainer = OcclusionTrainer(plan)
    while trainer.round < len(plan.minutes):
        look = looker(copy.deepcopy(trainer.average)) if trainer.round else None
        trainer.run(SceneMaker(pool=pool, anomalies=anomalies, look=look))
    return plan.out / "network.safetensors"


def main() -> None:
    """Train the gate's network."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of faces_*.npz")
    parser.add_argument("--lip-shapes", type=Path, required=True, help="folder of lips of repaired clefts")
    parser.add_argument("--model-dir", type=Path, required=True, help="directory with the encoder's weights")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint, log and weights")
    parser.add_argument(
        "--minutes",
        type=float,
        nargs="+",
        default=OcclusionPlan.minutes,
        help="of the processor, of each round",
    )
    parser.add_argument(
        "--frozen", action="store_true", help="leave the encoder as it is: less than half the work"
    )
    options = parser.parse_args()
    encoder = ModelStore(options.model_dir).path(_ENCODER)
    weights = train(
        OcclusionPlan(
            out=options.out, encoder=encoder, minutes=tuple(options.minutes), frozen=options.frozen
        ),
        options.data,
        options.lip_shapes,
    )
    release(weights, options.data, options.lip_shapes, options.out / "release")


if __name__ == "__main__":
    main()
