"""Milliseconds a photograph by method, device and batch, beside the lpips package in the same run.

Run: ``python bench/appraise.py [--model-dir DIR] [--threads 2] [--batch 8] [--pair NAME]``; with
``--pair stylegan2+deep-squeezenet`` a pair whose files are in the directory is timed as well. The last
line is JSON: ``default_ms_cpu``, ``default_ms_gpu`` (null without a GPU), ``comparator_vs_lpips``, the
time of our comparators over that of the lpips package for the same comparison, the worst of the
backbones (batch 1, CPU), ``comparator_vs_lpips_batched``, the same of whole batches, and ``methods_ms``,
by method, device and batch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import lpips
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from skimage import data

from service.appraisal.appraiser import Appraiser
from service.appraisal.methods.features.backbones import BACKBONES, build_network
from service.appraisal.methods.features.deep import DeepComparator, DeepSettings
from service.appraisal.model_files.models import ModelStore
from service.appraisal.photograph.decode import Photograph, photograph_from_rgb
from service.appraisal.registry import METHODS
from service.errors import ModelError

SIZE = 256
REPEATS, BUDGET_S = 15, 4.0  # a figure takes as many repeats as fit, at least three


def main() -> None:
    """Time everything and print tables, then the JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model-dir", type=Path, help="directory of model files not shipped")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of torch")
    parser.add_argument("--batch", type=int, default=8, help="photographs together in the batched figures")
    parser.add_argument(
        "--pair", action="append", default=[], help="normaliser+comparator to be timed too; may be repeated"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    console = Console(width=120)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    store = ModelStore(options.model_dir)
    methods = _time_methods((*METHODS, *options.pair), store, devices, options.batch, console)
    ratios = _time_comparators(devices, options.batch, console)
    name = "default" if "default" in METHODS else "symmetry"
    print(
        json.dumps(
            {
                "default_ms_cpu": methods.get((name, "cpu", 1)),
                "default_ms_gpu": methods.get((name, "cuda", options.batch)),
                "comparator_vs_lpips": ratios[1],
                "comparator_vs_lpips_batched": ratios.get(options.batch),
                "methods_ms": {"/".join(map(str, key)): ms for key, ms in methods.items()},
                "method": name,
                "threads": options.threads,
            }
        )
    )


def _photograph() -> Photograph:
    """A 12-megapixel photograph's worth of face: the astronaut's head at 1,280 pixels."""
    head = np.ascontiguousarray(data.astronaut()[0:320, 60:380])  # type: ignore[no-untyped-call]
    return photograph_from_rgb(np.kron(head, np.ones((4, 4, 1), np.uint8)))


def _time_methods(
    methods: Sequence[str], store: ModelStore, devices: list[str], batch: int, console: Console
) -> dict[tuple[str, str, int], float]:
    table = Table(title="Whole appraisal after decoding, ms a photograph (median)")
    for column in ("method", "device", "batch", "ms"):
        table.add_column(column)
    times: dict[tuple[str, str, int], float] = {}
    photograph = _photograph()
    for method in methods:
        for device in devices:
            try:
                appraiser = Appraiser(method, store=store, device=device)
            except ModelError as exc:
                table.add_row(method, device, "", f"not run: {exc}")
                continue
            for count in (1, batch):
                pictures = [photograph] * count
                ms = _median_ms(lambda a=appraiser, p=pictures: a.appraise_batch(p), device) / count  # type: ignore[misc]
                times[(method, device, count)] = round(ms, 2)
                table.add_row(method, device, str(count), f"{ms:.1f}")
    console.print(table)
    return times


def _time_comparators(devices: list[str], batch: int, console: Console) -> dict[int, float]:
    """Time each backbone against the package; return the worst ratio on the CPU by batch."""
    table = Table(title=f"Comparators at {SIZE} px, ms a pair (median)")
    for column in (
        "backbone",
        "device",
        "batch",
        "lpips package",
        "ours, LPIPS",
        "ours, eq. (1)-(2)",
        "ratios",
    ):
        table.add_column(column)
    worst: dict[int, float] = {}
    for name, short in (("alexnet", "alex"), ("squeezenet", "squeeze"), ("vgg16", "vgg")):
        for device in devices:
            for count in (1, batch) if name != "vgg16" or device == "cuda" else (1,):
                figures = _comparator_ms(name, short, device, count)
                ratios = [figure / figures[0] for figure in figures[1:]]
                if device == "cpu":
                    worst[count] = max(worst.get(count, 0.0), *ratios)
                cells = [f"{figure / count:.1f}" for figure in figures]
                table.add_row(name, device, str(count), *cells, ", ".join(f"{r:.2f}" for r in ratios))
    console.print(table)
    return {count: round(ratio, 3) for count, ratio in worst.items()}


def _comparator_ms(name: str, short: str, device: str, count: int) -> list[float]:
    """Medians of the package, our weighted and our unweighted comparator on networks of the same layout."""
    network = build_network(BACKBONES[name], None, len(BACKBONES[name].ends))
    learned = ModelStore().tensors(f"lpips-0.1-{short}")
    weights = [learned[f"layer{i}"] for i in range(len(network))]
    weighted = DeepComparator(network, DeepSettings(unit=True, power=2), device=device, weights=weights)
    plain = DeepComparator(network, DeepSettings(), device=device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = lpips.LPIPS(net=short, pnet_rand=True, spatial=True, verbose=False).to(device)
    one, other = (torch.rand(count, 3, SIZE, SIZE, device=device) for _ in range(2))

    def theirs() -> object:
        with torch.inference_mode():
            return package(one, other, normalize=True)

    return _interleaved_ms(
        (theirs, lambda: weighted.difference(one, other), lambda: plain.difference(one, other)), device
    )


def _median_ms(work: Callable[[], object], device: str) -> float:
    return _interleaved_ms((work,), device)[0]


def _interleaved_ms(works: tuple[Callable[[], object], ...], device: str) -> list[float]:
    """Medians of the works timed in turn, so that what else the machine does falls on all alike."""
    for work in works:
        work()
    times: list[list[float]] = [[] for _ in works]
    end = time.perf_counter() + BUDGET_S
    while len(times[0]) < 3 or (len(times[0]) < REPEATS and time.perf_counter() < end):
        for work, kept in zip(works, times, strict=True):
            start = time.perf_counter()
            work()
            if device == "cuda":
                torch.cuda.synchronize()
            kept.append(1000 * (time.perf_counter() - start))
    return [statistics.median(kept) for kept in times]


if __name__ == "__main__":
    main()
