"""The loop that every training here runs in: checkpoint, average of the weights, rate, log."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from service.training.schedule import follow, share_done, write_row

Module = TypeVar("Module", bound=nn.Module)
LOG_EVERY = 50  # steps
_LONGEST_GRADIENT = 5.0

Figures = Mapping[str, float]
Progress = Callable[[int, int, Figures], None]  # told (step, steps, figures) now and then


class Course(Generic[Module]):
    """A module on its way: with the running average of its weights, its optimiser and how far it is.

    Each group of the optimiser may have a share ``relative`` of the learning rate.
    """

    def __init__(
        self, module: Module, optimiser: torch.optim.Optimizer, checkpoint: Path, *, name: str = "network"
    ) -> None:
        """Begin, or go on from the checkpoint when there is one.

        Args:
            module: What learns.
            optimiser: Of its parameters.
            checkpoint: Where it is kept.
            name: Of the module in the checkpoint.
        """
        self.module = module
        self.average = copy.deepcopy(module).requires_grad_(False)
        self.optimiser = optimiser
        self.step = 0
        self._checkpoint = checkpoint
        self._name = name
        self.more: dict[str, float] = {}  # further numbers that the checkpoint keeps
        if checkpoint.exists():
            self._restore()

    def _restore(self) -> None:
        device = next(self.module.parameters()).device
        saved = torch.load(self._checkpoint, map_location=device, weights_only=True)
        self.module.load_state_dict(saved[self._name])
        self.average.load_state_dict(saved["average"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.step = int(saved["step"])
        known = {self._name, "average", "optimiser", "step"}
        self.more = {name: value for name, value in saved.items() if name not in known}

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        partial = self._checkpoint.with_suffix(".part")
        state = {
            self._name: self.module.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            **self.more,
        }
        torch.save(state, partial)
        partial.replace(self._checkpoint)

    def learn(self, loss: Tensor, rate: float) -> None:
        """Take one step of the optimiser, with a gradient no longer than 5."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group.get("relative", 1.0)
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), _LONGEST_GRADIENT)
        self.optimiser.step()

    def count(self) -> None:
        """A step is done: the average follows."""
        follow(self.average, self.module, self.step)
        self.step += 1


def cosine(done: float, step: int, *, peak: float, last: float, warm_up: int) -> float:
    """The learning rate: up over the first steps, then down half a cosine.

    Args:
        done: How much of the training is done, 0..1.
        step: Steps taken, this one included.
        peak: Highest rate.
        last: Share of it at the end.
        warm_up: Steps until the peak.
    """
    down = last + (1 - last) * 0.5 * (1 + float(np.cos(np.pi * min(done, 1.0))))
    return peak * down * min(1.0, step / warm_up)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long a training goes on, and how often it is kept."""

    steps: int  # in all, earlier runs' included
    minutes: float | None  # that this run may take; None: as long as the steps need
    save_every: int  # steps


def run(
    course: Course[Module],
    limits: Limits,
    learn: Callable[[int, float], Figures],
    *,
    log: Path,
    saved: Callable[[], None] = lambda: None,
    looks: Sequence[tuple[int, Callable[[int], None]]] = (),
    progress: Progress | None = None,
) -> None:
    """Learn step after step, until the steps or the time are used up.

    Args:
        course: What learns.
        limits: Steps, time, how often it is kept.
        learn: Takes (steps taken before, share done) and makes one step; answers its losses.
        log: CSV file of the mean losses of every 50 steps.
        saved: Called after each checkpoint, e.g. to write the weights.
        looks: Each (every so many steps, called with the steps taken), and at the end.
        progress: Told of each row of the log.
    """
    recent: list[Figures] = []
    first, began = course.step, time.monotonic()

    def done(step: int) -> float:
        return share_done(step + 1, limits.steps, first, time.monotonic() - began, limits.minutes)

    for step in range(first, limits.steps):
        recent.append(learn(step, done(step)))
        course.count()
        last = done(step) >= 1.0
        if (step + 1) % LOG_EVERY == 0 or last:
            means = {name: float(np.mean([row[name] for row in recent])) for name in recent[0]}
            means["seconds"] = time.monotonic() - began
            recent.clear()
            write_row(log, step + 1, means)
            if progress is not None:
                progress(step + 1, limits.steps, means)
        if (step + 1) % limits.save_every == 0 or last:
            course.save()
            saved()
        for every, look in looks:
            if (step + 1) % every == 0 or last:
                look(step + 1)
        if last:
            break
