"""How networks run on a device: precision, memory layout, compilation.

On a CPU everything is float32 and eager. On a GPU forward passes are in half precision with the
channels last; loops that run one graph hundreds of times (projection, adaptation) can be compiled, which
nothing asks for until it was measured on a GPU. Master weights, optimisers, losses and
regularisation stay float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from service.errors import ConfigurationError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Acceleration:
    """What is done to run faster."""

    dtype: torch.dtype | None = None  # of autocast; None leaves float32
    channels_last: bool = False
    backend: str = ""  # of torch.compile; "" runs eagerly
    mode: str | None = None  # of torch.compile; "reduce-overhead" uses CUDA graphs

    def autocast(self, device: str) -> torch.autocast:
        """Context in which forward passes run."""
        return torch.autocast(device, self.dtype, enabled=self.dtype is not None)

    def laid_out(self, values: Tensor) -> Tensor:
        """(B, C, H, W) in the memory layout wanted."""
        return values.contiguous(memory_format=torch.channels_last) if self.channels_last else values

    def place(self, module: nn.Module) -> None:
        """Lay a network's convolutions out."""
        if self.channels_last:
            for child in module.modules():
                if isinstance(child, nn.Conv2d):
                    child.to(memory_format=torch.channels_last)

    def compiled(self, function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        """The function, compiled where that is wanted."""
        if not self.backend:
            return function
        made: Callable[Arguments, Result] = torch.compile(function, backend=self.backend, mode=self.mode)
        return made


PLAIN = Acceleration()
# bfloat16, not float16: styles scale activations beyond float16's range, and nothing rescales the loss.
OPTIMISING_ON_GPU = Acceleration(dtype=torch.bfloat16, channels_last=True)
COMPARING_ON_GPU = Acceleration(dtype=torch.float16, channels_last=True)


def for_optimising(device: str) -> Acceleration:
    """For loops of forward and backward passes on "cpu" or "cuda"."""
    return OPTIMISING_ON_GPU if device == "cuda" else PLAIN


def for_comparing(device: str) -> Acceleration:
    """For single forward passes of frozen networks."""
    return COMPARING_ON_GPU if device == "cuda" else PLAIN


def pick_device(wanted: str) -> str:
    """Return "cuda" or "cpu"; "auto" takes the GPU when there is one.

    Raises:
        ConfigurationError: "cuda" is wanted, and there is no GPU that PyTorch can use.
    """
    if wanted == "cpu":
        return wanted
    if torch.cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        raise ConfigurationError("device: PyTorch finds no GPU to use here; `cpu` or `auto` do without")
    return "cpu"
