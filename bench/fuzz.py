"""Mutated code streams through the decoders: how many, what became of them, and whether a process was lost.

    python -m bench.fuzz --streams 20000

Streams of every family are damaged at random (the seed is printed) and decoded by a pool, as a worker does.
A child that ends is lost; the streams that ended one are written to ``--keep``.
"""

from __future__ import annotations

import argparse
import collections
import time
from pathlib import Path

import numpy as np
import psutil

from service.codecs.decode import decode_frame
from service.codecs.pool import CodecPool
from service.errors import DecoderLostError, PhotographError
from tests.unit.service.codecs.streams import FAMILIES, mutated, stream


def main() -> int:
    """Run; 1 when a process was lost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--keep", type=Path, default=None)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    whole = {family: stream(family) for family in FAMILIES}
    ends: dict[str, collections.Counter[str]] = {family: collections.Counter() for family in FAMILIES}
    pool = CodecPool(1)
    begun, most_bytes = time.monotonic(), 0
    for number in range(options.streams):
        family = FAMILIES[number % len(FAMILIES)]
        codestream, geometry = whole[family]
        damaged = mutated(codestream, rng)
        try:
            decode_frame(damaged, geometry, pool)
            ends[family]["decoded"] += 1
        except PhotographError:
            ends[family]["refused"] += 1
        except DecoderLostError as exc:
            ends[family]["LOST"] += 1
            print(f"stream {number} ({family}): {exc}")
            if options.keep is not None:
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / f"{family}-{options.seed}-{number}").write_bytes(damaged)
        if number % 500 == 0:
            for pid in pool.pids():
                most_bytes = max(most_bytes, psutil.Process(pid).memory_info().rss)
    took_s = time.monotonic() - begun
    pool.close()
    for family, counted in ends.items():
        print(f"{family:12s} " + ", ".join(f"{what} {count}" for what, count in sorted(counted.items())))
    lost = sum(counted["LOST"] for counted in ends.values())
    print(
        f"{options.streams} streams (seed {options.seed}) in {took_s:.0f} s, {lost} processes lost,"
        f" child at most {most_bytes / 1e6:.0f} MB"
    )
    return 1 if lost else 0


if __name__ == "__main__":
    raise SystemExit(main())
