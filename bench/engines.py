"""Whether another engine than PyTorch is worth its weight on the CPU: the shipped networks by ONNX Runtime.

    pip install onnx onnxruntime onnxscript
    python -m bench.engines --threads 2

Both networks of the default method read one face and its mirror image, each engine in turn, round by round.
Prints wall and processor time (median and least) and the largest difference of any output from PyTorch's. The
last line is one JSON object: the shares of wall and processor time that ONNX Runtime saves.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from service.appraisal.methods.localised.anomaly_network import (
    AnomalyNetwork,
    NetworkOutput,
    of_close_up,
    of_whole,
)
from service.appraisal.methods.localised.views import CLOSE_UP, WHOLE, View
from service.appraisal.model_files.models import ModelStore

_OUTPUTS = tuple(NetworkOutput.__dataclass_fields__)
Engine = Callable[[], list[np.ndarray[Any, Any]]]


class _Plain(torch.nn.Module):
    """The network with a tuple for its output, as exporters want it."""

    def __init__(self, network: AnomalyNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        output = self.network(images)
        return tuple(getattr(output, name) for name in _OUTPUTS)


def engines(view: View, tensors: Mapping[str, Tensor], directory: Path, threads: int) -> dict[str, Engine]:
    """Each engine as a call without arguments that gives the outputs for the same faces."""
    import onnxruntime  # type: ignore[import-not-found]

    network = AnomalyNetwork(view)
    network.load_state_dict(dict(tensors))
    plain = _Plain(network.eval().requires_grad_(False)).eval()
    images = torch.rand(2, 3, view.size, view.size, generator=torch.Generator().manual_seed(0))
    path = directory / f"{view.name}.onnx"
    torch.onnx.export(plain, (images,), path, input_names=["images"], output_names=_OUTPUTS, dynamo=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    fast, lined = (
        plain.to(memory_format=torch.channels_last),
        images.contiguous(memory_format=torch.channels_last),
    )
    given = {"images": images.numpy()}

    def by_torch() -> list[np.ndarray[Any, Any]]:
        with torch.inference_mode():
            return [each.numpy() for each in fast(lined)]

    return {
        "torch": by_torch,  # as the product runs it
        "onnxruntime": lambda: session.run(None, given),
    }


def measure(made: Mapping[str, Engine], rounds: int) -> dict[str, tuple[list[float], list[float]]]:
    """Wall and processor milliseconds of each engine, in turn."""
    found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in made}
    for number in range(rounds + 2):
        for name, run in made.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            if number >= 2:  # what comes first allocates
                found[name][0].append(1e3 * (time.perf_counter() - wall))
                found[name][1].append(1e3 * (time.process_time() - cpu))
    return found


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:
        sys.exit("bench.engines needs: pip install onnx onnxruntime onnxscript")
    torch.set_num_threads(options.threads)
    tensors = ModelStore().tensors("default-face")
    wall_ms: dict[str, float] = {}
    cpu_ms: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as directory:
        for view, weights in ((WHOLE, of_whole(tensors)), (CLOSE_UP, of_close_up(tensors))):
            made = engines(view, weights, Path(directory), options.threads)
            wanted = made["torch"]()
            for name, (wall, cpu) in measure(made, options.rounds).items():
                off = max(float(np.abs(a - b).max()) for a, b in zip(made[name](), wanted, strict=True))
                wall_ms[name] = wall_ms.get(name, 0.0) + statistics.median(wall)
                cpu_ms[name] = cpu_ms.get(name, 0.0) + statistics.median(cpu)
                print(
                    f"{view.name}, {name}: {statistics.median(wall):.1f} ms (least {min(wall):.1f}),"
                    f" CPU {statistics.median(cpu):.1f} ms (least {min(cpu):.1f}), difference {off:.1e}"
                )
    saved = [round(1 - ms["onnxruntime"] / ms["torch"], 3) for ms in (wall_ms, cpu_ms)]
    print(json.dumps(dict(zip(("saved_wall", "saved_cpu"), saved, strict=True))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
