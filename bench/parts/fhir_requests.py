"""Requests over HTTP to the FHIR API as it is run in production, timed; and their floor in plain SQL."""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg

from bench.parts.fhir_fill import MEASURED, key, patients
from reporting.terminology import SCORE
from service.commands.program import PROGRAM

REQUESTS = 1500  # of each kind and size, a round
WARM = 100  # and before them
DEPTH = 1000  # pages
DEEP = "next page at depth"


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
        asked = ("\r\n".join(lines) + "\r\n\r\n").encode()
        try:
            head = await self._head(asked)
        except (asyncio.IncompleteReadError, ConnectionError):  # at rest for too long: the server closed it
            await self.open()
            head = await self._head(asked)
        found = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        return int(head[9:12]), found

    async def _head(self, asked: bytes) -> bytes:
        self.writer.write(asked)
        return await self.reader.readuntil(b"\r\n\r\n")

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
    command = [*PROGRAM, "api"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"], psutil.Process(process.pid)
        finally:
            process.terminate()


@dataclass(frozen=True, kw_only=True)
class Served:
    """A database of ``rows`` Observations, the API that serves it, and what was measured of it."""

    rows: int
    url: str
    connection: Connection
    process: psutil.Process
    timings: dict[str, Timing] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)


def measure(urls: Mapping[int, str], directory: Path, rounds: int) -> list[Served]:
    """Time every kind of request over HTTP and in SQL, on each database by its number of Observations."""
    with ExitStack() as stack:
        running = {rows: stack.enter_context(api_process(url, directory)) for rows, url in urls.items()}
        served = [
            Served(rows=rows, url=urls[rows], connection=Connection(base), process=process)
            for rows, (base, process) in running.items()
        ]
        asyncio.run(_measure_http(served, rounds))
    for size in served:
        _measure_sql(size)
    return served


def _requests(rows: int) -> dict[str, Callable[[], str]]:
    """What makes each kind of request; the same requests every run."""
    draw = random.Random(1)  # noqa: S311 - no secret

    def patient() -> str:
        return key("p", int(patients(rows) * draw.random() ** 2))

    return {
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


async def _measure_http(served: Sequence[Served], rounds: int) -> None:
    for size in served:
        await size.connection.open()
    makers = [_requests(size.rows) for size in served]
    taken: dict[str, list[list[float]]] = {name: [[] for _ in served] for name in (*makers[0], DEEP)}
    cpu_s = dict.fromkeys(makers[0], 0.0)  # of the last, the largest
    for turn in range(rounds):
        print(f"round {turn + 1}", flush=True)
        for name in makers[0]:
            targets = [[f"/fhir/{make[name]()}" for _ in range(WARM + REQUESTS)] for make in makers]
            await _alternate(served, [each[:WARM] for each in targets])
            began = _cpu_s(served[-1].process)
            for all_taken, once in zip(
                taken[name], await _alternate(served, [each[WARM:] for each in targets]), strict=True
            ):
                all_taken.extend(once)
            cpu_s[name] += _cpu_s(served[-1].process) - began
        for all_taken, once in zip(taken[DEEP], await _walk(served), strict=True):
            all_taken.extend(once)
    for number, size in enumerate(served):
        size.timings.update({name: _timing(each[number]) for name, each in taken.items()})
        _print(size, "HTTP", size.timings)
    costs = served[-1].costs
    costs["http_cpu_ms"] = 1000 * cpu_s["read"] / (rounds * REQUESTS)
    for name, spent in cpu_s.items():
        print(f"  {name:<20} {1000 * spent / (rounds * REQUESTS):5.2f} ms of CPU a request")
    await _export(served[-1])


async def _alternate(served: Sequence[Served], targets: Sequence[Sequence[str]]) -> list[list[float]]:
    """Milliseconds of each size's requests, made in turn: what else the machine does falls on all of them."""
    taken: list[list[float]] = [[] for _ in served]
    found = [0 for _ in served]
    for step in range(len(targets[0])):
        for number in _order(served, step):
            began = time.perf_counter()
            status, _, body = await served[number].connection.get(targets[number][step])
            taken[number].append(1000 * (time.perf_counter() - began))
            assert status == 200, targets[number][step]
            found[number] += b'"resourceType":"Observation"' in body
    for each, count in zip(targets, found, strict=True):
        assert count > len(each) / 2, f"{each[0]} and its like find next to nothing"
    return taken


def _order(served: Sequence[Served], step: int) -> Sequence[int]:
    """None of the sizes always goes first."""
    return range(len(served)) if step % 2 == 0 else range(len(served) - 1, -1, -1)


def _timing(taken: list[float]) -> Timing:
    cuts = statistics.quantiles(taken, n=100)
    return Timing(p50_ms=cuts[49], p99_ms=cuts[98])


def _print(size: Served, how: str, timings: Mapping[str, Timing]) -> None:
    print(f"{size.rows:>12,} Observations")
    for name, timing in timings.items():
        print(f"  {how:<4} {name:<20} p50 {timing.p50_ms:7.2f} ms  p99 {timing.p99_ms:7.2f} ms", flush=True)


async def _walk(served: Sequence[Served]) -> list[list[float]]:
    """Milliseconds of the second half of a walk over all Observations, newest first, of ``DEPTH`` pages."""
    targets = ["/fhir/Observation?_count=5" for _ in served]
    taken: list[list[float]] = [[] for _ in served]
    for step in range(DEPTH):
        for number in _order(served, step):
            began = time.perf_counter()
            status, _, body = await served[number].connection.get(targets[number])
            taken[number].append(1000 * (time.perf_counter() - began))
            assert status == 200, targets[number]
            following = [link["url"] for link in json.loads(body)["link"] if link["relation"] == "next"]
            assert following, f"{served[number].rows:,} Observations are fewer than {DEPTH:,} pages"
            targets[number] = following[0][following[0].index("/fhir/") :]
    return [each[DEPTH // 2 :] for each in taken]


async def _export(size: Served) -> None:
    """Resources a second of one file of a system export, and what one costs the API."""
    connection, process, costs = size.connection, size.process, size.costs
    _, headers, _ = await connection.get("/fhir/$export?_type=Observation", Prefer="respond-async")
    location = headers[b"content-location"].decode()
    status = 202
    while status == 202:  # planned a few seconds at a time
        status, _, body = await connection.get(location[location.index("/fhir/") :])
    output = json.loads(body)["output"][0]
    url = output["url"]
    cpu, began = _cpu_s(process), time.perf_counter()
    lines, length = await connection.count_lines(url[url.index("/fhir/") :])
    costs["export_per_s"] = lines / (time.perf_counter() - began)
    costs["export_cpu_us"] = 1e6 * (_cpu_s(process) - cpu) / lines
    print(
        f"  HTTP {'$export':<20} {costs['export_per_s']:,.0f} resources/s, {length / lines:,.0f} bytes each"
        f"  cpu {costs['export_cpu_us']:.1f} us each",
        flush=True,
    )
    assert lines == output["count"]


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _measure_sql(size: Served) -> None:
    """The floor: the same pages by the plainest SQL."""
    draw, rows = random.Random(1), size.rows  # noqa: S311 - no secret
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
    timings: dict[str, Timing] = {}
    with psycopg.connect(size.url, autocommit=True) as connection:
        for name, (query, make) in queries.items():
            taken = []
            for _ in range(REQUESTS):
                parameters = make()
                began = time.perf_counter()
                connection.execute(query.encode(), parameters).fetchall()
                taken.append(1000 * (time.perf_counter() - began))
            timings[name] = _timing(taken)
    _print(size, "SQL", timings)
