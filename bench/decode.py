"""What a child process costs a photograph: decoded here, and decoded by the pool.

    python -m bench.decode

Prints, for JPEG photographs of two sizes, wall time (least and median) and processor time of this process and
its children together.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import psutil
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from service.codecs.decode import decode_frame
from service.codecs.frame import FrameGeometry
from service.codecs.pool import CodecPool

_MEGAPIXELS = (2, 12)


def _photograph(megapixels: int) -> tuple[bytes, FrameGeometry]:
    rows = int((megapixels * 1e6 * 3 / 4) ** 0.5)
    columns = rows * 4 // 3
    out = io.BytesIO()
    picture = Image.fromarray(data.astronaut())  # type: ignore[no-untyped-call]
    picture.resize((columns, rows)).save(out, "JPEG", quality=92)
    geometry = FrameGeometry(
        rows=rows, columns=columns, samples_per_pixel=3, bits_allocated=8, bits_stored=8,
        pixel_representation=0, photometric_interpretation="YBR_FULL_422",
    )  # fmt: skip
    return out.getvalue(), geometry


def _here(codestream: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(codestream)) as image:
        return np.array(image)


def _cpu_s(pool: CodecPool) -> float:
    return time.process_time() + sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pool.pids())


def _measure(pool: CodecPool, decode: Callable[[], object]) -> tuple[float, float]:
    cpu_s, begun_s = _cpu_s(pool), time.perf_counter()
    decode()
    return time.perf_counter() - begun_s, _cpu_s(pool) - cpu_s


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    pool = CodecPool(1)
    for megapixels in _MEGAPIXELS:
        codestream, geometry = _photograph(megapixels)
        decode_frame(codestream, geometry, pool)
        ways: dict[str, Callable[[], object]] = {
            "here": partial(_here, codestream),
            "pool": partial(decode_frame, codestream, geometry, pool),
        }
        taken = [(way, _measure(pool, decode)) for _ in range(rounds) for way, decode in ways.items()]
        for way in ways:
            wall = sorted(wall_s for name, (wall_s, _) in taken if name == way)
            cpu = [cpu_s for name, (_, cpu_s) in taken if name == way]
            print(
                f"{megapixels} megapixels, {way}: least {wall[0] * 1e3:.1f} ms, median"
                f" {wall[rounds // 2] * 1e3:.1f} ms, processor {sum(cpu) / rounds * 1e3:.1f} ms"
            )
    pool.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
