"""Is the FHIR API flat? Reads, searches and exports over HTTP at two sizes, beside the same in plain SQL.

    python -m bench.fhir                  # 1 M and 10 M Observations
    python -m bench.fhir --rows 1000000   # 100 k and 1 M

Starts a PostgreSQL of its own, fills it with Observations as the product writes them (the same builder and
size; patients by a power law, as clinics see them), starts ``python -m reporting`` and asks it over one
kept-alive connection. Search columns are each row's own; of bodies there are a thousand, written once and
copied compressed, because compressing ten million would take an hour and tell nothing. CPU is of the API's
process. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import psutil
import psycopg

from reporting.fhir.builders.observation import build_observation
from reporting.fhir.render import draft_of
from reporting.terminology import CODE_SYSTEM, REGION_SCORES, SCORE
from service.database.migrate import migrate
from service.embedded import EmbeddedPostgres
from service.records import Region
from tests.unit.reporting.photographs import CREATED_AT, appraised, context

REQUESTS = 1500
DEPTH = 1000  # pages
PATIENTS_PER_ROW = 1 / 40
COMPONENTS = [
    REGION_SCORES[region].code for region in (Region.UPPER_LIP, Region.NOSE, Region.LEFT_CHEEK, Region.CHIN)
]
BODIES = 1000
TABLES = ("fhir_resource", "fhir_observation", "fhir_component", "fhir_token", "fhir_reference")


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of one kind of request."""

    p50_ms: float
    p99_ms: float


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000, help="Observations at the larger size")
    parser.add_argument("--dir", type=Path, default=None, help="where PostgreSQL keeps its data meanwhile")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="semblance-bench-", dir=options.dir))
    server = EmbeddedPostgres(directory / "data")
    server.start()
    try:
        url = server.ensure_database("bench")
        migrate(url)
        sizes = (options.rows // 10, options.rows)
        measured = {}
        done = 0
        for size in sizes:
            began = time.monotonic()
            fill(url, done, size)
            done = size
            print(f"{size:>11,} Observations, filled in {time.monotonic() - began:.0f} s", flush=True)
            measured[size] = measure(url, directory, size)
        report(sizes, measured)
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


def report(sizes: tuple[int, int], measured: dict[int, dict[str, float]]) -> None:
    """Print the last line."""
    small, large = (measured[size] for size in sizes)
    searches = ("patient+code+date", "value-quantity", "component", "$lastn", "next page at depth")
    summary = {
        "read_p99_10m_over_1m": round(large["read"] / small["read"], 3),
        "search_p99_10m_over_1m": round(max(large[name] / small[name] for name in searches), 3),
        "http_cpu_ms": round(large["http_cpu_ms"], 3),
        "export_per_s": round(large["export_per_s"]),
        "export_cpu_us": round(large["export_cpu_us"], 1),
        "rows": sizes[1],
        "rows_compared": sizes[0],
    }
    print(json.dumps(summary))


# --- filling


@contextmanager
def without_indexes(connection: psycopg.Connection[tuple[object, ...]]) -> Iterator[None]:
    """Drop secondary indexes while rows are written, then make them again."""
    indexes = connection.execute(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = ANY(%s)"
        " AND indexname NOT LIKE '%%_pkey' AND indexname NOT LIKE '%%_key'",
        (list(TABLES),),
    ).fetchall()
    for name, _ in indexes:
        connection.execute(f"DROP INDEX {name}".encode())
    yield
    for _, definition in indexes:
        connection.execute(str(definition).encode())


def fill(url: str, first: int, last: int) -> None:
    """Write Observations first..last, as the product renders them."""
    saved = appraised()
    appraisal = replace(saved.appraisal, appraisal_id=UUID(int=0), score=9.875)
    made_from = context(saved=replace(saved, appraisal=appraisal))
    resource = {
        **build_observation(made_from, "@patient@"),
        "id": "@id@",
        "effectiveDateTime": "2001-01-01T00:00:00Z",
    }
    body = draft_of(resource, base_url="http://x/fhir").body(1, CREATED_AT)
    body = body.replace("9.875", "@value@").replace("2001-01-01T00:00:00Z", "@when@")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute("SET maintenance_work_mem = '512MB'")
        connection.execute("SELECT setseed(0.5)")
        with without_indexes(connection):
            connection.execute("ALTER TABLE fhir_resource ALTER COLUMN resource_id SET GENERATED BY DEFAULT")
            _make_bodies(connection, body)
            row = connection.execute("SELECT coalesce(max(resource_id), 0) + 1 FROM fhir_resource").fetchone()
            assert row is not None
            for low in range(first, last, 100_000):
                high = min(low + 100_000, last)
                _fill_range(connection, range(low, high), rows=last, offset=int(str(row[0])) - first)
        connection.execute(
            "SELECT setval(pg_get_serial_sequence('fhir_resource', 'resource_id'),"
            " (SELECT max(resource_id) FROM fhir_resource))"
        )
        connection.execute("VACUUM ANALYZE")


def _make_bodies(connection: psycopg.Connection[tuple[object, ...]], body: str) -> None:
    """Render the bodies that rows share, compressed as they will lie in the table."""
    connection.execute("CREATE TEMP TABLE bodies (b bigint PRIMARY KEY, body text NOT NULL)")
    connection.execute("ALTER TABLE bodies SET (toast_tuple_target = 4080)")
    connection.execute(
        "INSERT INTO bodies SELECT g, replace(replace(replace(replace(%s, '@id@', 'o' || g), '@patient@',"
        " 'p' || g), '@value@', round((2 + random())::numeric, 3)::text), '@when@',"
        " to_char(timestamptz '2016-01-01 00:00Z' + random() * interval '3900 days',"
        ' \'YYYY-MM-DD"T"HH24:MI:SS"Z"\')) FROM generate_series(0, %s) g',
        (body, BODIES - 1),
    )


def _fill_range(
    connection: psycopg.Connection[tuple[object, ...]], numbers: range, *, rows: int, offset: int
) -> None:
    patients = max(1, int(rows * PATIENTS_PER_ROW))
    connection.execute(
        "CREATE TEMP TABLE made AS SELECT g + %s AS n, 'o' || g AS id,"
        " 'p' || floor(%s * power(random(), 2))::bigint AS patient,"
        " timestamptz '2016-01-01 00:00Z' + random() * interval '3900 days' AS moment,"
        " round((2 + 1.2 * sqrt(-2 * ln(1 - random())) * cos(6.2831853 * random()))::numeric, 3) AS value"
        " FROM generate_series(%s::bigint, %s::bigint) g",
        (offset, patients, numbers.start, numbers.stop - 1),
    )
    connection.execute(
        "INSERT INTO fhir_resource (resource_id, type, id, version_id, last_updated, author, patient,"
        " occurred, content_sha256, body) OVERRIDING SYSTEM VALUE"
        " SELECT n, 'Observation', id, 1, now(), 'semblance', patient, moment, '\\x00', body"
        " FROM made JOIN bodies ON b = n %% %s",
        (BODIES,),
    )
    connection.execute(
        "INSERT INTO fhir_observation (resource_id, patient, code_system, code, status, device, effective,"
        " effective_high, value, value_unit) SELECT n, patient, %s, %s, 'final', 'd' || n %% 3,"
        " date_trunc('second', moment), date_trunc('second', moment) + interval '1 second', value, '{score}'"
        " FROM made",
        (CODE_SYSTEM.uri, SCORE.code),
    )
    connection.execute(
        "INSERT INTO fhir_component (resource_id, code_system, code, value, value_unit)"
        " SELECT n, %s, c, round((value + random() - 0.5)::numeric, 3), '{score}'"
        " FROM made, unnest(%s::text[]) c",
        (CODE_SYSTEM.uri, COMPONENTS),
    )
    connection.execute(
        "INSERT INTO fhir_token (resource_id, param, system, code) SELECT n, 101,"
        " 'http://terminology.hl7.org/CodeSystem/observation-category', 'imaging' FROM made"
        " UNION ALL SELECT n, 102, 'urn:ietf:rfc:3986', 'urn:uuid:' || md5(id) FROM made"
    )
    connection.execute(
        "INSERT INTO fhir_reference (resource_id, param, target_type, target_id)"
        " SELECT n, 104, 'Media', 'm' || n FROM made"
        " UNION ALL SELECT n, 105, 'ImagingStudy', 's' || n / 3 FROM made"
    )
    connection.execute("DROP TABLE made")


# --- measuring


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
    patients = max(1, int(rows * PATIENTS_PER_ROW))

    def patient() -> str:
        return f"p{int(patients * draw.random() ** 2)}"

    requests: dict[str, Callable[[], str]] = {
        "read": lambda: f"Observation/o{draw.randrange(rows)}",
        "patient+code+date": lambda: (
            f"Observation?patient={patient()}&code={SCORE.code}&date=ge2022-01-01&_count=20"
        ),
        "value-quantity": lambda: f"Observation?value-quantity=lt{draw.uniform(-1, 0):.3f}&_count=20",
        "component": lambda: (
            f"Observation?component-code-value-quantity={COMPONENTS[0]}$lt{draw.uniform(-1, 0):.3f}&_count=20"
        ),
        "$lastn": lambda: f"Observation/$lastn?patient={patient()}&max=3",
    }
    results: dict[str, float] = {}
    with api_process(url, directory) as (base, process):
        asyncio.run(_measure_http(base, process, requests, results))
    _measure_sql(url, draw, rows, patients)
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
    taken = []
    for target in targets:
        began = time.perf_counter()
        status, _, _ = await connection.get(target)
        taken.append(1000 * (time.perf_counter() - began))
        assert status == 200, target
    return _timing(taken)


def _timing(taken: list[float]) -> Timing:
    cuts = statistics.quantiles(taken, n=100)
    return Timing(p50_ms=cuts[49], p99_ms=cuts[98])


async def _deep(connection: Connection) -> float:
    """p99 of the last pages of a walk of DEPTH pages over all Observations, newest first."""
    target = "/fhir/Observation?_count=5"
    taken = []
    for _ in range(DEPTH):
        began = time.perf_counter()
        _, _, body = await connection.get(target)
        taken.append(1000 * (time.perf_counter() - began))
        following = [x["url"] for x in json.loads(body)["link"] if x["relation"] == "next"]
        target = following[0][following[0].index("/fhir/") :]
    timing = _timing(taken[DEPTH // 2 :])
    print(
        f"  HTTP {'next page at depth':<20} p50 {timing.p50_ms:7.2f} ms  p99 {timing.p99_ms:7.2f} ms",
        flush=True,
    )
    return timing.p99_ms


async def _export(connection: Connection, process: psutil.Process, results: dict[str, float]) -> None:
    """Resources a second of one file of a system export, and what one costs the API."""
    _, headers, _ = await connection.get("/fhir/$export?_type=Observation", Prefer="respond-async")
    location = headers[b"content-location"].decode()
    _, _, body = await connection.get(location[location.index("/fhir/") :])
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


def _measure_sql(url: str, draw: random.Random, rows: int, patients: int) -> None:
    """The floor: the same pages by the plainest SQL."""
    join = "JOIN fhir_resource r USING (resource_id)"
    queries: dict[str, tuple[str, Callable[[], tuple[object, ...]]]] = {
        "read": (
            "SELECT body FROM fhir_resource WHERE type = 'Observation' AND id = %s",
            lambda: (f"o{draw.randrange(rows)}",),
        ),
        "patient+code+date": (
            f"SELECT r.body FROM fhir_observation o {join} WHERE o.patient = %s"  # noqa: S608
            " AND o.code = 'score'"
            " AND o.effective >= '2022-01-01' ORDER BY o.effective DESC, o.resource_id DESC LIMIT 20",
            lambda: (f"p{int(patients * draw.random() ** 2)}",),
        ),
        "value-quantity": (
            f"SELECT r.body FROM fhir_observation o {join} WHERE o.value < %s"  # noqa: S608
            " ORDER BY o.value, o.resource_id LIMIT 20",
            lambda: (round(draw.uniform(-1, 0), 3),),
        ),
        "component": (
            f"SELECT r.body FROM fhir_component c {join} WHERE c.code = %s AND c.value < %s"  # noqa: S608
            " ORDER BY c.value, c.resource_id LIMIT 20",
            lambda: (COMPONENTS[0], round(draw.uniform(-1, 0), 3)),
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


if __name__ == "__main__":
    main()
