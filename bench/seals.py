"""How fast rows are sealed and verified, and what a long chain changes about it.

    python -m bench.seals --rows 10000000 --sample 20000

A database is filled with so many lines of the ledger and their seals, by SQL. Then a sample of new lines is
sealed at the end of that chain, and samples of the same size are verified at its beginning, middle and end:
what a whole run would take is reckoned from them. The look for rows without a seal is over all, not a sample.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import psycopg

from service.audit.trail import seal_pending
from service.config import Settings
from service.database.migrate import migrate
from service.database.pool import Connection, connect, open_pool
from service.database.sealing import seals
from service.database.sealing.chain import GENESIS, chained
from service.stack.servers import EmbeddedPostgres

_LINES = (
    "INSERT INTO ledger (sop_instance_uid, event, detail) SELECT '2.25.' || n, 'kept', '{\"by\": \"bench\"}'"
    " FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n"
)


def fill(url: str, rows: int) -> None:
    """Lines and seals, past the triggers; the digests are of the right length and no more."""
    with psycopg.connect(url) as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(_LINES.encode(), {"first": 1, "last": rows})
        connection.execute(
            "INSERT INTO seal (position, source, row_id, row_key, digest)"
            " SELECT row_number() OVER (ORDER BY ledger_id), 'ledger', ledger_id, '',"
            " sha256(int8send(ledger_id))"
            " FROM ledger"
        )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE ledger, seal")


def seal(settings: Settings, rows: int, sample: int) -> float:
    """Rows a second that are sealed at the end of the chain."""
    with connect(settings) as connection:
        connection.execute(_LINES.encode(), {"first": rows + 1, "last": rows + sample})
    with open_pool(settings) as pool:
        begun = time.perf_counter()
        sealed = seal_pending(pool, settings)
        return sealed / (time.perf_counter() - begun)


def verify(connection: Connection, after: int, sample: int) -> float:
    """Rows a second that are read, written as they were sealed, and chained, from a place on."""
    digest, begun, count = GENESIS, time.perf_counter(), 0
    for row in itertools.islice(seals.sealed(connection, after), sample):
        if row.content is None:
            raise SystemExit(f"{row.row}: there is no such row")
        digest = chained(digest, row.content)
        count += 1
    return count / (time.perf_counter() - begun)


def main() -> int:
    """Fill, measure, and say what came out as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000, help="sealed already")
    parser.add_argument("--sample", type=int, default=20_000, help="sealed and verified")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="semblance-bench-"))
    server = EmbeddedPostgres(directory / "data")
    server.start()
    try:
        settings = Settings(database_url=server.ensure_database("bench"), broker_url="memory://")
        migrate(settings.database_url)
        fill(settings.database_url, options.rows)
        sealing = seal(settings, options.rows, options.sample)
        places = (0, (options.rows - options.sample) // 2, options.rows - options.sample)
        with connect(settings) as connection:
            verifying = [verify(connection, max(0, place), options.sample) for place in places]
            begun = time.perf_counter()
            strays = seals.strays(connection)
            looking = time.perf_counter() - begun
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)
    told = {
        "rows": options.rows,
        "sealed_a_second": round(sealing),
        "verified_a_second": [round(each) for each in verifying],
        "strays": len(strays),
        "strays_s": round(looking, 1),
        "whole_verify_s": round(options.rows * len(verifying) / sum(verifying) + looking),
    }
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
