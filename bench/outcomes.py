"""Charts of outcomes at a million changes, and how fast photographs are paired.

``python -m bench.outcomes``: a PostgreSQL of its own, filled with changes (three regions, four procedures,
two methods, ten years). Prints one JSON line: milliseconds of SQL of a funnel by surgeon over three years and
of an XmR over everything (medians of several), and photographs paired a second, from their facts to the
changes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context
from pathlib import Path

if not __package__:  # run as a file: its folder would hide the package fhir
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from reporting.outcomes.charts.units import Unit
from reporting.outcomes.database import changes, queue
from reporting.outcomes.database.changes import Selection
from reporting.outcomes.following.follow import follow
from reporting.outcomes.simulation.world import NOTHING, simulate
from reporting.outcomes.simulation.writing import write_world
from service.config import Settings
from service.database.migrate import migrate
from service.database.pool import Connection, connect
from service.stack.servers import EmbeddedPostgres

_REPEATS = 7
_FILL = """
INSERT INTO outcome_change (change_id, case_id, window_name, region, case_version, patient, before_appraisal,
    after_appraisal, phase, method, procedure_code, performed_on, followed_on, site, surgeon, phenotype,
    syndrome, laterality, age_years, before, after, change, smallest_detectable, verdict, is_primary, valid,
    why_not)
SELECT ids.change_id, ids.case_id, '12 months', (ARRAY['face', 'nose', 'upper-lip'])[1 + n %% 3], 1, 'p' || n,
    pair.one, pair.one, (ARRAY['old', 'new'])[1 + (n / 3) %% 2], 'default',
    (ARRAY['a', 'b', 'c', 'd'])[1 + (n / 6) %% 4], day, day + 365, 'site ' || (n / 24) %% 3,
    'surgeon ' || (n / 24) %% 20, 'UCLP', false, 'left', 1.0, 2.0, 2.0 + step, step, 0.357,
    CASE WHEN step > 0.357 THEN 'better' ELSE 'within error' END, n %% 3 = 0, n %% 50 <> 0,
    CASE WHEN n %% 50 = 0 THEN 'superseded' ELSE '' END
FROM generate_series(1, %(rows)s) AS n,
    LATERAL (SELECT md5('change' || n)::uuid AS change_id, md5('case' || n)::uuid AS case_id) AS ids,
    LATERAL (SELECT date '2014-01-01' + ((n::bigint * 7919) %% 3650)::int AS day,
        ((n::bigint * 104729) %% 1000) / 1000.0 AS step) AS drawn,
    (SELECT appraisal_id AS one FROM appraisal LIMIT 1) AS pair
"""
_EXPECT = """
INSERT INTO expected (risk_model_id, change_id, case_id, risk, change)
SELECT %(model)s, change_id, case_id, 0.3, 0.5 FROM outcome_change
WHERE procedure_code = 'a' AND region = 'face' AND phase = 'new'
"""
_MODEL = """
INSERT INTO risk_model
    (procedure_code, window_name, region, phase, version, model, performance, data_sha256, reason, author)
VALUES ('a', '12 months', 'face', 'new', 1, '{}', '{}', '', 'bench', 'bench') RETURNING risk_model_id
"""
_CHARTED = Selection(code="a", window="12 months", region="face", phase="new")


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Charts at a million changes, and pairing.")
    parser.add_argument("--changes", type=int, default=1_000_000)
    parser.add_argument("--photographs", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="semblance-bench-") as folder:
        server = EmbeddedPostgres(Path(folder) / "postgres")
        server.start()
        try:
            figures = _measure(server, Path(folder), options.changes, options.photographs)
        finally:
            server.stop()
    print(json.dumps(figures))


def _measure(server: EmbeddedPostgres, folder: Path, rows: int, photographs: int) -> dict[str, float]:
    pairing = Settings(database_url=server.ensure_database("pairs"), storage_dir=folder)
    charting = Settings(database_url=server.ensure_database("charts"), storage_dir=folder)
    for each in (pairing, charting):
        migrate(each.database_url)
    pairs_per_s = _pair(pairing, photographs)
    with connect(charting) as connection:
        write_world(connection, simulate(1, NOTHING, photographs=100))
        connection.execute(_FILL.encode(), {"rows": rows})
        row = connection.execute(_MODEL.encode()).fetchone()
        assert row is not None
        model = int(row["risk_model_id"])
        connection.execute(_EXPECT.encode(), {"model": model})
    with connect(charting) as connection:
        connection.autocommit = True
        connection.execute("VACUUM ANALYZE")
    three_years = Selection(**{**vars(_CHARTED), "since": date(2020, 1, 1), "until": date(2022, 12, 31)})
    with connect(charting) as connection:
        funnel = _median_ms(lambda: changes.unit_sums(connection, three_years, Unit.SURGEON, model))
        xmr = _median_ms(lambda: changes.monthly_means(connection, _CHARTED))
    return {"funnel_ms": round(funnel, 1), "xmr_ms": round(xmr, 1), "pairs_per_s": round(pairs_per_s)}


def _median_ms(ask: Callable[[], object]) -> float:
    spent = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        ask()
        spent.append((time.perf_counter() - started) * 1000)
    return statistics.median(spent)


def _pair(settings: Settings, photographs: int) -> float:
    """Photographs paired a second by a process a core, a batch a transaction, as the workers do."""
    with connect(settings) as connection:
        write_world(connection, simulate(2, NOTHING, photographs=photographs))
        _gather(connection)
    with connect(settings) as connection:
        connection.autocommit = True
        connection.execute("VACUUM ANALYZE")
    workers = os.cpu_count() or 1
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(_warm, [settings] * workers))
        started = time.perf_counter()
        spent = list(pool.map(_follow_all, [settings] * workers))
        rate = photographs / (time.perf_counter() - started)
    print(f"pairing: {sum(spent) / photographs * 1000:.2f} ms of CPU a photograph", file=sys.stderr)
    return rate


def _warm(settings: Settings) -> None:
    """Have a process import what it needs, and connect once; the pause keeps one from doing it twice."""
    with connect(settings) as connection:
        connection.execute("SELECT pg_sleep(.5)")


def _follow_all(settings: Settings) -> float:
    """Pair until nothing is left; returns seconds of CPU, of this process and of its server process."""
    started = time.process_time()
    with connect(settings) as connection:
        connection.commit()
        while follow(connection, settings):
            connection.commit()
        server = Path(f"/proc/{connection.info.backend_pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(server[11]) + int(server[12])  # utime, stime (proc_pid_stat(5))
    return time.process_time() - started + ticks / os.sysconf("SC_CLK_TCK")


def _gather(connection: Connection) -> None:
    while queue.gather(connection):
        pass


if __name__ == "__main__":
    main()
