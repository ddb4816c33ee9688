"""Is the FHIR API flat? Reads, searches and exports over HTTP at two sizes, beside the same in plain SQL.

    python bench/fhir.py                  # 1 M and 10 M Observations; python -m bench.fhir is the same
    python -m bench.fhir --rows 1000000   # 100 k and 1 M
    python -m bench.fhir --keep DIR       # fills once, measures the same databases each time

Starts a PostgreSQL of its own with a database of each size (``bench.parts.fhir_fill``), serves each by
``semblance api`` and asks it over one kept-alive connection (``bench.parts.fhir_requests``). The sizes take
turns request by request, so that what else the machine does falls on both; percentiles are over all rounds.
CPU is of the API's process. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

if not __package__:  # run as a file: its folder would hide the package fhir
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench.parts import fhir_fill
from bench.parts.fhir_requests import Served, measure
from service.database.migrate import migrate
from service.stack.servers import EmbeddedPostgres


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000, help="Observations at the larger size")
    parser.add_argument("--rounds", type=int, default=4, help="how often each kind of request is measured")
    parser.add_argument("--dir", type=Path, default=None, help="where PostgreSQL keeps its data meanwhile")
    parser.add_argument("--keep", type=Path, default=None, help="where it keeps them for the next run too")
    options = parser.parse_args()
    with _directory(options.dir, options.keep) as directory:
        server = EmbeddedPostgres(directory / "data")
        server.start()
        try:
            _run(server, directory, options.rows, options.rounds)
        finally:
            server.stop()


@contextmanager
def _directory(parent: Path | None, keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(
        prefix="semblance-bench-", dir=parent, ignore_cleanup_errors=True
    ) as made:
        yield Path(made)


def _run(server: EmbeddedPostgres, directory: Path, rows: int, turns: int) -> None:
    urls = {size: server.ensure_database(f"bench{size}") for size in (rows // 10, rows)}
    for size, url in urls.items():
        _fill(url, size)
    _report(measure(urls, directory, turns))


def _fill(url: str, size: int) -> None:
    migrate(url)
    began = time.monotonic()
    if fhir_fill.is_filled(url):
        return
    fhir_fill.fill(url, size)
    print(f"{size:>11,} Observations, filled in {time.monotonic() - began:.0f} s", flush=True)
    bytes_of = fhir_fill.sizes(url)
    for name, size_bytes in bytes_of.items():
        if size_bytes >= size:
            print(f"  {name:<32} {size_bytes / size:7.1f} bytes a row")
    print(f"  {'all':<32} {sum(bytes_of.values()) / size:7.1f} bytes a row", flush=True)


def _report(served: Sequence[Served]) -> None:
    """Print the last line."""
    small, large = served
    for percentile in ("p50_ms", "p99_ms"):
        print(f"{percentile} of the larger over the smaller: {_ratios(small, large, percentile)}")
    ratios = _ratios(small, large, "p99_ms")
    read = ratios.pop("read")
    summary = {
        "read_p99_10m_over_1m": read,
        "search_p99_10m_over_1m": max(ratios.values()),
        "http_cpu_ms": round(large.costs["http_cpu_ms"], 3),
        "export_per_s": round(large.costs["export_per_s"]),
        "export_cpu_us": round(large.costs["export_cpu_us"], 1),
        "rows": large.rows,
        "rows_compared": small.rows,
    }
    print(json.dumps(summary))


def _ratios(small: Served, large: Served, percentile: str) -> dict[str, float]:
    """A percentile at the larger size over that at the smaller, by kind of request."""
    return {
        name: round(getattr(timing, percentile) / getattr(small.timings[name], percentile), 3)
        for name, timing in large.timings.items()
    }


if __name__ == "__main__":
    main()
