"""Requests over HTTP to the FHIR API as it is run in production, timed; and their floor in plain SQL."""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg

from bench.fhir_fill import MEASURED, key, patients
from reporting.terminology import SCORE

REQUESTS = 1500
DEPTH = 1000  # pages
SEARCHES = ("patient+code+date", "value-quantity", "component", "$lastn", "next page at depth")


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Percentiles of one kind of request."""

    p50_ms: float
    p99_ms: float


class Connection:
    """One kept-alive HTTP/1.1 connection that costs its own process little."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.port = str(parts.hostname), int(parts.port or 80)

    async def open(self) -> None:
        """Connect."""
        self.reader, self.writer = await asyncio.open_connection(self.host, self.port, limit=64 * 1024 * 1024)

    async def get(self, target: str, **headers: str) -> tuple[int, dict[bytes, bytes], bytes]:
        """Ask; returns status, headers in lower case, and body."""
        status, found = await self._ask(target, headers)
        if b"content-length" in found:
            return status, found, await self.reader.readexactly(int(found[b"content-length"]))
        return status, found, b"".join([piece async for piece in self._pieces()])

    async def count_lines(self, target: str) -> tuple[int, int]:
        """Ask for a streamed file and let it pass; returns its lines and bytes."""
        await self._ask(target, {})
        lines = size = 0
        async for piece in self._pieces():
            lines += piece.count(b"\n")
            size += len(piece)
        return lines, size

    async def _ask(self, target: str, headers: Mapping[str, str]) -> tuple[int, dict[bytes, bytes]]:
        lines = [f"GET {target} HTTP/1.1", f"Host: {self.host}:{self.port}", "Accept: application/fhir+json"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        head = await self.reader.readuntil(b"\r\n\r\n")
        found = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        return int(head[9:12]), found

    async def _pieces(self) -> AsyncIterator[bytes]:
        """Pieces of a chunked body, as they come."""
        while (left := int(await self.reader.readuntil(b"\r\n"), 16)) > 0:
            while left > 0:
                piece = await self.reader.read(min(left, 1024 * 1024))
                left -= len(piece)
                yield piece
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)


@contextmanager
def api_process(url: str, directory: Path) -> Iterator[tuple[str, psutil.Process]]:
    """The API as it is run in production, on a free port."""
    environment = os.environ | {
        "SEMBLANCE_DATABASE_URL": url,
        "SEMBLANCE_STORAGE_DIR": str(directory / "store"),
        "SEMBLANCE_API_PORT": "0",
    }
    command = [sys.executable, "-m", "reporting"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"], psutil.Process(process.pid)
        finally:
            process.terminate()


def measure(url: str, directory: Path, rows: int) -> dict[str, float]:
    """Time every kind of request over HTTP and in SQL; p99 in milliseconds by name."""
    draw = random.Random(1)  # noqa: S311 - the same requests every run

    def patient() -> str:
        return key("p", int(patients(rows) * draw.random() ** 2))

    requests: dict[str, Callable[[], str]] = {
        "read": lambda: f"Observation/{key('o', draw.randrange(rows))}",
        "patient+code+date": lambda: (
            f"Observation?patient={patient()}&code={SCORE.code}&date=ge2022-01-01&_count=20"
        ),
        "value-quantity": lambda: f"Observation?value-quantity=lt{draw.uniform(-1, 0):.3f}&_count=20",
        "component": lambda: (
            f"Observation?component-code-value-quantity={MEASURED[2]}$lt{draw.uniform(-1, 0):.3f}&_count=20"
        ),
        "$lastn": lambda: f"Observation/$lastn?patient={patient()}&max=3",
    }
    results: dict[str, float] = {}
    with api_process(url, directory) as (base, process):
        asyncio.run(_measure_http(base, process, requests, results))
    _measure_sql(url, draw, rows)
    return results


async def _measure_http(
    base: str,
    process: psutil.Process,
    requests: dict[str, Callable[[], str]],
    results: dict[str, float],
) -> None:
    connection = Connection(base)
    await connection.open()
    for name, make in requests.items():
        for _ in range(100):
            await connection.get(f"/fhir/{make()}")
        cpu = _cpu_s(process)
        timing = await _timed(connection, [f"/fhir/{make()}" for _ in range(REQUESTS)])
        cpu_ms = 1000 * (_cpu_s(process) - cpu) / REQUESTS
        results[name] = timing.p99_ms
        if name == "read":
            results["http_cpu_ms"] = cpu_ms
        print(
            f"  HTTP {name:<20} p50 {timing.p50_ms:7.2f} ms  p99 {timing.p99_ms:7.2f} ms"
            f"  cpu {cpu_ms:5.2f} ms",
            flush=True,
        )
    results["next page at depth"] = await _deep(connection)
    await _export(connection, process, results)


async def _timed(connection: Connection, targets: list[str]) -> Timing:
    taken, found = [], 0
    for target in targets:
        began = time.perf_counter()
        status, _, body = await connection.get(target)
        taken.append(1000 * (time.perf_counter() - began))
        assert status == 200, target
        found += b'"resourceType":"Observation"' in body
    assert found > len(targets) / 2, f"{targets[0]} and its like find next to nothing"
    return _timing(taken)


def _timing(taken: list[float]) -> Timing:
    cuts = statistics.quantiles(taken, n=100)
    return Timing(p50_ms=cuts[49], p99_ms=cuts[98])


async def _deep(connection: Connection) -> float:
    """p99 of the second half of a walk over all Observations, newest first: DEPTH pages, or all there are."""
    target = "/fhir/Observation?_count=5"
    taken: list[float] = []
    while target and len(taken) < DEPTH:
        began = time.perf_counter()
        _, _, body = await connection.get(target)
        taken.append(1000 * (time.perf_counter() - began))
        following = [x["url"] for x in json.loads(body)["link"] if x["relation"] == "next"]
        target = following[0][following[0].index("/fhir/") :] if following else ""
    timing = _timing(taken[len(taken) // 2 :])
    print(
        f"  HTTP {'next page at depth':<20} p50 {timing.p50_ms:7.2f} ms  p99 {timing.p99_ms:7.2f} ms"
        f"  of {len(taken):,} pages",
        flush=True,
    )
    return timing.p99_ms


async def _export(connection: Connection, process: psutil.Process, results: dict[str, float]) -> None:
    """Resources a second of one file of a system export, and what one costs the API."""
    _, headers, _ = await connection.get("/fhir/$export?_type=Observation", Prefer="respond-async")
    location = headers[b"content-location"].decode()
    status = 202
    while status == 202:  # planned a few seconds at a time
        status, _, body = await connection.get(location[location.index("/fhir/") :])
    output = json.loads(body)["output"][0]
    url = output["url"]
    cpu, began = _cpu_s(process), time.perf_counter()
    lines, size = await connection.count_lines(url[url.index("/fhir/") :])
    results["export_per_s"] = lines / (time.perf_counter() - began)
    results["export_cpu_us"] = 1e6 * (_cpu_s(process) - cpu) / lines
    print(
        f"  HTTP {'$export':<20} {results['export_per_s']:,.0f} resources/s, {size / lines:,.0f} bytes each"
        f"  cpu {results['export_cpu_us']:.1f} us each",
        flush=True,
    )
    assert lines == output["count"]


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _measure_sql(url: str, draw: random.Random, rows: int) -> None:
    """The floor: the same pages by the plainest SQL."""
    join = "JOIN fhir_resource r USING (resource_id)"
    queries: dict[str, tuple[str, Callable[[], tuple[object, ...]]]] = {
        "read": (
            "SELECT body FROM fhir_resource WHERE type = 'Observation' AND id = %s",
            lambda: (key("o", draw.randrange(rows)),),
        ),
        "patient+code+date": (
            f"SELECT r.body FROM fhir_observation o {join} WHERE o.patient = %s"  # noqa: S608
            " AND o.code = 'score'"
            " AND o.effective >= '2022-01-01' ORDER BY o.effective DESC, o.resource_id DESC LIMIT 20",
            lambda: (key("p", int(patients(rows) * draw.random() ** 2)),),
        ),
        "value-quantity": (
            f"SELECT r.body FROM fhir_observation o {join} WHERE o.value < %s"  # noqa: S608
            " ORDER BY o.value, o.resource_id LIMIT 20",
            lambda: (round(draw.uniform(-1, 0), 3),),
        ),
        "component": (
            f"SELECT r.body FROM fhir_observation o {join} WHERE o.amounts[3] < %s"  # noqa: S608
            " ORDER BY o.amounts[3], o.resource_id LIMIT 20",
            lambda: (draw.uniform(-1, 0),),
        ),
    }
    with psycopg.connect(url, autocommit=True) as connection:
        for name, (query, make) in queries.items():
            taken = []
            for _ in range(REQUESTS):
                parameters = make()
                began = time.perf_counter()
                connection.execute(query.encode(), parameters).fetchall()
                taken.append(1000 * (time.perf_counter() - began))
            timing = _timing(taken)
            print(f"  SQL  {name:<20} p50 {timing.p50_ms:7.2f} ms  p99 {timing.p99_ms:7.2f} ms", flush=True)
