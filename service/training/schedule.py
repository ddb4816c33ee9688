"""What every training here shares: how far it is, the average of its weights, its log and its file."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from service.errors import ConfigurationError

_KEEP = 0.998  # of the average, a step


def share_done(step: int, steps: int, first: int, seconds: float, minutes: float | None) -> float:
    """How much of a training is done, 0..1, by steps or by the time this run may take.

    Args:
        step: steps taken, earlier runs' included.
        steps: in all.
        first: taken before this run.
        seconds: that this run has taken.
        minutes: that it may take; None for as long as the steps need.
    """
    by_steps = step / steps
    if minutes is None:
        return by_steps
    before = first / steps
    return max(by_steps, min(before + (1 - before) * seconds / (60 * minutes), 1.0))


def follow(average: nn.Module, module: nn.Module, step: int) -> None:
    """Move the running average of a module's weights; early averages forget faster."""
    keep = min(_KEEP, (1 + step) / (10 + step))
    with torch.no_grad():
        theirs = module.state_dict()
        for name, value in average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(theirs[name], 1 - keep)
            else:
                value.copy_(theirs[name])


def mean_of(weights: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of several trainings' weights, float32; what is no number with a fraction is the first's.

    Of trainings begun from the same weights it may tell more than any of them (Wortsman et al. 2022).

    Args:
        weights: two or more files' tensors, of one network.

    Raises:
        ConfigurationError: fewer than two, or not of one network.
    """
    if len(weights) < 2:
        raise ConfigurationError("a mean needs two files of weights or more")
    shapes = [{name: value.shape for name, value in one.items()} for one in weights]
    if any(shape != shapes[0] for shape in shapes):
        raise ConfigurationError("the weights are not of one network")
    return {
        name: torch.stack([one[name].float() for one in weights]).mean(0)
        if value.is_floating_point()
        else value
        for name, value in weights[0].items()
    }


def write_row(path: Path, step: int, figures: Mapping[str, float]) -> None:
    """Append a row to a CSV log, with a header when it is new."""
    fresh = not path.exists()
    with path.open("a", newline="") as stream:
        writer = csv.writer(stream)
        if fresh:
            writer.writerow(["step", *figures])
        writer.writerow([step, *(f"{v:.5f}" for v in figures.values())])


def save_halves(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors to a safetensors file, those of floating point in half precision."""
    halves = {
        name: (value.detach().half() if value.is_floating_point() else value.detach()).cpu().contiguous()
        for name, value in tensors.items()
    }
    save_file(halves, path)
