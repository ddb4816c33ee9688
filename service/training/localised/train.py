"""Training of the default method's network: resumable, logged, on a CPU or one GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from service.appraisal.anomalies import RANDOM, Maker
from service.appraisal.memory import keep_freed_memory
from service.appraisal.methods.localised.anomaly_network import AnomalyNetwork, NetworkOutput, of_whole
from service.appraisal.methods.localised.views import WHOLE, View
from service.errors import ConfigurationError
from service.training.faces import FacePool
from service.training.localised.examples import PER_FACE, Batch, Examples
from service.training.localised.losses import Losses, losses
from service.training.localised.steering import SteeringSet, steer
from service.training.loop import Course, Limits, Progress, cosine, run
from service.training.schedule import save_halves, write_row

_WARM_UP = 200  # steps
_LAST_RATE = 0.03  # of the peak
FROZEN_LAYERS = 5  # of the encoder: edges and colours are as good for faces as for ImageNet


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """How to train; everything that decides the weights."""

    out: Path  # folder for checkpoint, log, contact sheets and weights
    view: View = WHOLE  # what the network sees of a face
    encoder: Path | None  # SqueezeNet 1.1 weights (safetensors) to start from
    start: Path | None = None  # weights of an earlier training to continue from
    steps: int = 12_000  # optimiser steps in all
    faces_per_batch: int = 6  # each gives PER_FACE images
    minutes: float | None = None  # wall-clock budget of this run; the rate falls to its end by then
    curriculum_steps: int = 3_000  # over which anomalies become subtle
    learning_rate: float = 1.2e-3  # of the decoder, at its peak
    encoder_rate: float = 0.2  # of the encoder, relative to the decoder's; 0 leaves it as it is
    device: str = "cpu"
    threads: int = 2  # of torch on the CPU
    workers: int = 1  # processes that make examples
    seed: int = 7
    save_every: int = 200
    steer_every: int = 600


def load_encoder(network: AnomalyNetwork, path: Path) -> None:
    """Start the encoder from SqueezeNet 1.1 weights under torchvision's names."""
    weights = load_file(path)
    network.encoder.load_state_dict(
        {k.removeprefix("features."): v.float() for k, v in weights.items() if "features" in k}
    )


def _begin(plan: TrainingPlan, device: torch.device) -> Course[AnomalyNetwork]:
    torch.manual_seed(plan.seed)
    network = AnomalyNetwork(plan.view)
    if plan.start is not None:
        network.load_state_dict({k: v.float() for k, v in of_whole(load_file(plan.start)).items()})
    elif plan.encoder is not None:
        load_encoder(network, plan.encoder)
    else:
        raise ConfigurationError("training needs encoder weights or weights to continue from")
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.encoder[: FROZEN_LAYERS if plan.encoder_rate else None].requires_grad_(False)
    network.points.requires_grad_(plan.encoder_rate > 0)  # it goes with the encoder
    encoder = [p for p in network.encoder.parameters() if p.requires_grad]
    own = {id(p) for p in encoder}
    rest = [p for p in network.parameters() if p.requires_grad and id(p) not in own]
    optimiser = torch.optim.AdamW(
        [
            {"params": rest, "lr": 0.0, "relative": 1.0},
            {"params": encoder, "lr": 0.0, "relative": plan.encoder_rate},
        ],
        weight_decay=0.02,
    )
    return Course(network, optimiser, plan.out / "checkpoint.pt")


def train(
    plan: TrainingPlan,
    pool: FacePool,
    *,
    makers: Mapping[str, Maker] = RANDOM,
    held: SteeringSet | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train, continuing from the checkpoint in ``plan.out`` when there is one.

    Args:
        plan: how.
        pool: training faces.
        makers: anomaly types to learn from.
        held: faces to steer by.
        progress: told (step, steps, figures) now and then.

    Returns:
        The weights (safetensors, half precision) of the averaged network.
    """
    plan.out.mkdir(parents=True, exist_ok=True)
    device = torch.device(plan.device)
    keep_freed_memory()
    torch.set_num_threads(plan.threads)
    cv2.setNumThreads(1)  # a forked worker would wait for OpenCV threads that it does not have
    course = _begin(plan, device)
    stream = Examples(
        pool,
        makers,
        faces_per_batch=plan.faces_per_batch,
        first_step=course.step,
        curriculum_steps=plan.curriculum_steps,
        seed=plan.seed,
        view=plan.view,
    )
    batches = iter(DataLoader(stream, batch_size=None, num_workers=plan.workers))
    weights = plan.out / "network.safetensors"
    shown: list[tuple[Batch, NetworkOutput]] = []  # the newest batch

    def learn(step: int, done: float) -> Mapping[str, float]:
        batch = next(batches)
        turn = slice(step % PER_FACE, None, PER_FACE)
        rate = cosine(done, step + 1, peak=plan.learning_rate, last=_LAST_RATE, warm_up=_WARM_UP)
        parts, output = _step(course, batch, turn, rate, device)
        shown[:] = [(batch, output)]
        return {f.name: float(getattr(parts, f.name).detach()) for f in fields(parts)}

    def look(step: int) -> None:
        _contact_sheet(plan.out / f"sheet-{step:06d}.png", *shown[0])
        if held is not None:
            course.average.eval()
            figures = steer(course.average, held, device)
            write_row(plan.out / "steering.csv", step, figures)
            if progress is not None:
                progress(step, plan.steps, figures)

    run(
        course,
        Limits(steps=plan.steps, minutes=plan.minutes, save_every=plan.save_every),
        learn,
        log=plan.out / "log.csv",
        saved=lambda: save_halves(course.average.state_dict(), weights),
        looks=((plan.steer_every, look),),
        progress=progress,
    )
    return weights


def _step(
    course: Course[AnomalyNetwork], batch: Batch, landmarks_of: slice, rate: float, device: torch.device
) -> tuple[Losses, NetworkOutput]:
    """One optimiser step; landmarks are learnt from some of the images, for they cost a third of all."""
    course.module.train()
    batch = Batch(**{f.name: getattr(batch, f.name).to(device) for f in fields(batch)})
    images = batch.images.float().div(255).contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        output = course.module(images, landmarks_of)
    parts = losses(output, batch, landmarks_of)
    course.learn(parts.total(), rate)
    return parts, output


def _contact_sheet(path: Path, batch: Batch, output: NetworkOutput) -> None:
    """Images, targets and predicted probabilities of the first four faces."""
    count = min(4 * PER_FACE, len(batch.images))
    rows = []
    images = batch.images[:count].numpy().transpose(0, 2, 3, 1)[..., ::-1]
    found = output.localisation[:count].detach().float().sigmoid().cpu().numpy()
    for index in range(count):
        planes = [images[index]]
        for plane in (batch.localisation[index, 0].numpy(), found[index, 0]):
            grey = cv2.resize((255 * plane).astype(np.uint8), images.shape[1:3])
            planes.append(cv2.applyColorMap(grey, cv2.COLORMAP_MAGMA))
        rows.append(cv2.resize(np.hstack(planes), None, fx=0.5, fy=0.5))
    columns = [np.vstack(rows[start::PER_FACE]) for start in range(PER_FACE)]
    cv2.imwrite(str(path), np.hstack(columns))
