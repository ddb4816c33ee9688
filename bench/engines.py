"""Whether another engine than PyTorch's own is worth its weight on the CPU, for the shipped networks.

    pip install onnx onnxruntime onnxscript
    python -m bench.engines --threads 2

Both networks of the default method read one face and its mirror image: by PyTorch as the product runs it, by
PyTorch with the graph traced and frozen, and by ONNX Runtime. Each engine has a process of its own, the
processes take turns: in one process the threads of one engine, which spin while they wait for work, slow the
other down to half its speed, and the comparison says what the neighbour costs. Prints wall and processor time
(median and least) and the largest difference of any output from PyTorch's. The last line is one JSON object:
the shares of wall and processor time that each saves.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
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

ENGINES = ("torch", "torch-frozen", "onnxruntime")
_OUTPUTS = tuple(NetworkOutput.__dataclass_fields__)
_WARM_UP = 3  # the first calls allocate
Engine = Callable[[], list[np.ndarray[Any, Any]]]


class _Plain(torch.nn.Module):
    """The network with a tuple for its output, as exporters want it."""

    def __init__(self, network: AnomalyNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        output = self.network(images)
        return tuple(getattr(output, name) for name in _OUTPUTS)


def networks() -> dict[View, _Plain]:
    """The two networks of the default method."""
    tensors = ModelStore().tensors("default-face")
    made = {}
    for view, weights in ((WHOLE, of_whole(tensors)), (CLOSE_UP, of_close_up(tensors))):
        network = AnomalyNetwork(view)
        network.load_state_dict(dict(weights))
        made[view] = _Plain(network.eval().requires_grad_(False)).eval()
    return made


def engine(name: str, view: View, plain: _Plain, threads: int) -> Engine:
    """One engine as a call without arguments that gives its outputs for the same two pictures."""
    images = torch.rand(2, 3, view.size, view.size, generator=torch.Generator().manual_seed(0))
    if name == "onnxruntime":
        return _by_onnxruntime(view, plain, images, threads)
    lined = images.contiguous(memory_format=torch.channels_last)
    module: Callable[[Tensor], tuple[Tensor, ...]] = plain.to(memory_format=torch.channels_last)
    if name == "torch-frozen":
        module = torch.jit.freeze(torch.jit.trace(plain, lined, check_trace=False))  # type: ignore[no-untyped-call]

    def run() -> list[np.ndarray[Any, Any]]:
        with torch.inference_mode():
            return [each.numpy() for each in module(lined)]

    return run


def _by_onnxruntime(view: View, plain: _Plain, images: Tensor, threads: int) -> Engine:
    import onnxruntime  # type: ignore[import-not-found]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / f"{view.name}.onnx"
        torch.onnx.export(
            plain, (images,), path, input_names=["images"], output_names=_OUTPUTS, dynamo=True, verbose=False
        )
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given = {"images": images.numpy()}
    return lambda: session.run(None, given)


def measure(name: str, threads: int, rounds: int, outputs: Path) -> dict[str, list[list[float]]]:
    """Wall and processor milliseconds of each view by one engine; its outputs go to a file."""
    torch.set_num_threads(threads)
    found, given = {}, {}
    for view, plain in networks().items():
        run = engine(name, view, plain, threads)
        times: list[list[float]] = [[], []]
        for number in range(rounds + _WARM_UP):
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            if number >= _WARM_UP:
                times[0].append(1e3 * (time.perf_counter() - wall))
                times[1].append(1e3 * (time.process_time() - cpu))
        found[view.name] = times
        given.update({f"{view.name} {index}": value for index, value in enumerate(run())})
    np.savez(outputs, **given)
    return found


def take_turns(
    threads: int, turns: int, rounds: int, directory: Path
) -> dict[str, dict[str, list[list[float]]]]:
    """Times of every engine, each turn in a process of its own."""
    found: dict[str, dict[str, list[list[float]]]] = {name: {} for name in ENGINES}
    command = [sys.executable, "-m", "bench.engines", f"--threads={threads}", f"--rounds={rounds}"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    for _ in range(turns):
        for name in ENGINES:
            arguments = [*command, "--one", name, "--outputs", str(directory / f"{name}.npz")]
            ended = subprocess.run(arguments, env=environment, check=True, stdout=subprocess.PIPE, text=True)
            for view, times in json.loads(ended.stdout.splitlines()[-1]).items():
                for kept, new in zip(found[name].setdefault(view, [[], []]), times, strict=True):
                    kept.extend(new)
    return found


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=20, help="calls a turn")
    parser.add_argument("--turns", type=int, default=3, help="processes of each engine")
    parser.add_argument("--one", choices=ENGINES, help="measure this engine here, as one turn")
    parser.add_argument("--outputs", type=Path, help="where one turn leaves its outputs")
    options = parser.parse_args()
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:
        sys.exit("bench.engines needs: pip install onnx onnxruntime onnxscript")
    if options.one:
        print(json.dumps(measure(options.one, options.threads, options.rounds, options.outputs)))
        return 0
    with tempfile.TemporaryDirectory() as directory:
        found = take_turns(options.threads, options.turns, options.rounds, Path(directory))
        outputs = {name: dict(np.load(Path(directory) / f"{name}.npz")) for name in ENGINES}
    totals = {name: [0.0, 0.0] for name in ENGINES}
    for name, views in found.items():
        for view, (wall, cpu) in views.items():
            wanted = {key: value for key, value in outputs["torch"].items() if key.startswith(view)}
            off = max(float(np.abs(outputs[name][key] - value).max()) for key, value in wanted.items())
            totals[name][0] += statistics.median(wall)
            totals[name][1] += statistics.median(cpu)
            print(
                f"{view}, {name}: {statistics.median(wall):.1f} ms (least {min(wall):.1f}),"
                f" CPU {statistics.median(cpu):.1f} ms (least {min(cpu):.1f}), difference {off:.1e}"
            )
    saved = {
        f"{name} {kind}": round(1 - totals[name][place] / totals["torch"][place], 3)
        for name in ENGINES[1:]
        for place, kind in enumerate(("wall", "cpu"))
    }
    print(json.dumps({"threads": options.threads, "saved": saved}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
