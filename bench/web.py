"""Pages of the dashboard over a million results: time of the server, and size without pictures.

``python -m bench.web``: a PostgreSQL of its own, filled with photographs, results, lines of the ledger,
operations and changes (four regions, four procedures, ten years). Each page is asked for several times by
somebody who is logged in. Prints one JSON line: milliseconds and kilobytes of the worst page, medians of
several, and of the slowest first answer; a chart is drawn for its first answer and kept for a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from uuid import UUID

if not __package__:  # run as a file: its folder would hide the package fhir
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import httpx

from reporting.fhir.http import Api
from reporting.http.server import make_api
from reporting.outcomes.database.changes import Selection
from reporting.outcomes.drawing import fit_risk
from reporting.web.app import web_app
from reporting.web.database import cohorts, sessions, users
from reporting.web.database.sessions import NewSession
from reporting.web.people import Role
from reporting.web.tokens import SESSION_COOKIE, digest
from service.config import Settings
from service.database.migrate import migrate
from service.database.pool import transaction
from service.stack.servers import EmbeddedPostgres

_REPEATS = 5
_TOKEN = "t" * 43
_COHORT = "00000000-0000-0000-0000-000000000001"
_BASE = "http://127.0.0.1:8080"

# Triggers and foreign keys are left out while rows are made up: they cost nothing when pages are read.
_FILL = (
    "SET session_replication_role = replica",
    """
INSERT INTO instance (sop_instance_uid, sop_class_uid, study_instance_uid, series_instance_uid,
    transfer_syntax_uid, patient_id, issuer_of_patient_id, calling_ae_title, called_ae_title, peer_address,
    sha256, size_bytes, state, received_at, progressed_at)
SELECT '1.2.' || n, '1.2.840.10008.5.1.4.1.1.77.1.4', '1.3.' || n, '1.4.' || n, '1.2.840.10008.1.2.4.50',
    'P' || n / 4, 'H', 'CAM' || n %% 3, 'SEMBLANCE', '127.0.0.1', md5(n::text), 1,
    CASE WHEN n %% 5000 = 0 THEN 'dead' ELSE 'delivered' END, at, at
FROM generate_series(1, %(rows)s) AS n,
    LATERAL (SELECT now() - make_interval(secs => (%(rows)s - n) * 300) AS at) AS times""",
    """
INSERT INTO appraisal (appraisal_id, instance_id, pixel_sha256, method_name, method_version, normaliser,
    comparator, weights_sha256, config_sha256, calibration, status, reasons, score, rating, percentile,
    regions, quality, warnings, heatmap_sha256, difference_map_sha256, created_at)
SELECT md5('appraisal' || instance_id)::uuid, instance_id, 'p', 'default', '3', 'restoration', 'localised',
    'w', 'c', 'default-3', CASE WHEN instance_id %% 20 = 0 THEN 'rejected' ELSE 'appraised' END,
    CASE WHEN instance_id %% 20 = 0 THEN '{blurred}'::text[] ELSE '{}' END,
    CASE WHEN instance_id %% 20 = 0 THEN NULL ELSE 1.5 END, 5.5, 40,
    '[{"region": "face", "score": 1.5, "z": 0.5, "judged": 1, "occluded": 0, "reason": null}]',
    '{"faces": 1, "yaw_deg": 2.5}', '{}', '', '', received_at FROM instance""",
    """
INSERT INTO outcome_photograph (instance_id, patient, acquired_on, acquired_at, site, hint_source)
SELECT instance_id, patient_id, received_at::date, received_at, 'site ' || instance_id %% 3, ''
FROM instance""",
    """
INSERT INTO ledger (instance_id, sop_instance_uid, event, at, detail)
SELECT instance_id, sop_instance_uid, 'received', received_at, '{"calling_ae_title": "CAM1"}'
FROM instance""",
    """
INSERT INTO phase (begins_on, phase, method, procedure_code, reason, author)
VALUES ('2014-01-01', 'new', 'default 3', '', 'bench', 'bench')""",
    """
INSERT INTO procedure_case (case_id, version, source, reason, author, patient, procedure_id, code_system,
    code, performed_on, phenotype, site, surgeon, consent, active)
SELECT md5('case' || n)::uuid, 1, 'csv', '', 'bench', 'P' || n, '', 's',
    (ARRAY['a', 'b', 'c', 'd'])[1 + n %% 4], date '2014-01-01' + ((n::bigint * 7919) %% 3650)::int,
    (ARRAY['UCLP', 'BCLP'])[1 + (hashtext('p' || n) & 1)], 'site ' || n %% 3, 'surgeon ' || n %% 20,
    true, true
FROM generate_series(1, %(rows)s / 4) AS n""",
    """
INSERT INTO outcome_state
    (case_id, window_name, procedure_code, performed_on, site, surgeon, state, reason)
SELECT case_id, w, code, performed_on, site, surgeon, 'paired', ''
FROM procedure_case, unnest('{6 months,12 months}'::text[]) AS w""",
    """
INSERT INTO outcome_change (change_id, case_id, window_name, region, case_version, patient, before_appraisal,
    after_appraisal, phase, method, procedure_code, performed_on, followed_on, site, surgeon, phenotype,
    syndrome, laterality, age_years, before, after, change, smallest_detectable, verdict, is_primary, valid,
    why_not)
SELECT md5('change' || n || ' ' || r)::uuid, case_id, '12 months', region, 1, patient,
    md5('appraisal' || n * 4)::uuid, md5('appraisal' || n * 4 + 1)::uuid, 'new', 'default', code,
    performed_on, performed_on + 365, site, surgeon, phenotype, (hashtext('s' || n) & 7) = 0,
    (ARRAY['left', 'right'])[1 + (hashtext('l' || n) & 1)], 1.0 + (hashtext('a' || n) & 63) / 8.0,
    1.0 + (hashtext('b' || n) & 127) / 128.0, 2.0 + step, step, 0.357,
    CASE WHEN step > 0.357 THEN 'better' ELSE 'within error' END, r = 1, true, ''
FROM procedure_case,
    LATERAL (SELECT substr(patient, 2)::int AS n) AS numbered,
    unnest('{face,nose,upper-lip,chin}'::text[]) WITH ORDINALITY AS regions (region, r),
    LATERAL (SELECT (hashtext(region || n) & 1023) / 1023.0 AS step) AS drawn""",
    "SET session_replication_role = DEFAULT",
)
_ANALYZE = "ANALYZE"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Pages of the dashboard over a million results.")
    parser.add_argument("--results", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="semblance-bench-") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedPostgres(Path(folder) / "postgres")
        server.start()
        try:
            figures = _measure(server, Path(folder), options.results)
        finally:
            server.stop()
    print(json.dumps(figures))


def _measure(server: EmbeddedPostgres, folder: Path, results: int) -> dict[str, object]:
    url = server.ensure_database("bench")
    migrate(url)
    api = make_api(Settings(database_url=url, storage_dir=folder / "store", web_login="passcode"))
    try:
        selection = Selection(code="a", window="12 months", region="face", phase="new")
        with transaction(api.pool) as connection:
            connection.execute("SET LOCAL statement_timeout = 0")
            for statement in _FILL:
                connection.execute(statement.encode(), {"rows": results})
            cohorts.save(connection, UUID(_COHORT), "bench", selection, "bench")
            users.add(
                connection, name="bench", full_name="", roles=[role.value for role in Role], passcode="none"
            )
            sessions.begin(connection, _session(), 3600)
            sessions.give_purpose(connection, digest(_TOKEN), f"P{results // 8}", "HQUALIMP")
        with transaction(api.pool) as connection:
            connection.execute("SET LOCAL statement_timeout = 0")
            connection.execute(_ANALYZE)
            fit_risk(connection, selection, author="bench", reason="bench")
        return asyncio.run(_ask(api, results))
    finally:
        api.close()


def _session() -> NewSession:
    return NewSession(
        token_sha256=digest(_TOKEN),
        user_name="bench",
        full_name="",
        roles=(),
        way="passcode",
        peer_address="127.0.0.1",
    )


def _pages(results: int) -> dict[str, str]:
    """Name and path of every page that reads."""
    cohort = f"/cohorts/{_COHORT}"
    lists = {
        f"list {show}": f"/worklist?show={show}" for show in ("all", "arrived", "waiting", "rejected", "dead")
    }
    charts = {f"chart {kind}": f"{cohort}?chart={kind}" for kind in ("xmr", "run", "p", "time", "funnel")}
    return {
        "today": "/",
        **lists,
        "list far back": f"/worklist?before={results // 2}",
        "photograph": f"/photographs/1.2.{results // 2}",
        "patient": f"/patients/P{results // 8}",
        "cohorts": "/cohorts",
        **charts,
        "funnel by surgeon": f"{cohort}?chart=funnel&by=surgeon&why=bench",
        "point": f"{cohort}/point?chart=xmr&at=0.2016-05",
        "conflicts": "/conflicts",
        "phases": "/phases",
        "audit": "/audit",
        "audit of one": "/audit?who=bench",
        "audit of a day": "/audit?since=2019-05-01&until=2019-05-02",
        "system": "/system",
    }


async def _ask(api: Api, results: int) -> dict[str, object]:
    transport = httpx.ASGITransport(app=web_app(api), client=("127.0.0.1", 1))
    first: dict[str, float] = {}
    times: dict[str, float] = {}
    sizes: dict[str, float] = {}
    async with httpx.AsyncClient(
        transport=transport, base_url=_BASE, cookies={SESSION_COOKIE: _TOKEN}, timeout=600
    ) as client:
        for name, path in _pages(results).items():
            taken = []
            for _ in range(_REPEATS + 1):
                begun = time.perf_counter()
                answer = await client.get(f"/ui{path}")
                taken.append((time.perf_counter() - begun) * 1000)
                assert answer.status_code == 200, (name, answer.status_code, answer.text)
                assert 'name="purpose"' not in answer.text, name
            first[name], times[name] = round(taken[0], 1), round(statistics.median(taken[1:]), 1)
            sizes[name] = round(len(answer.content) / 1000, 1)
    coldest = max(first, key=first.__getitem__)
    slowest, largest = max(times, key=times.__getitem__), max(sizes, key=sizes.__getitem__)
    return {
        "worst_page_ms": times[slowest],
        "worst_page_kb": sizes[largest],
        "worst_first_ms": first[coldest],
        "slowest": slowest,
        "slowest_first": coldest,
        "largest": largest,
        "results": results,
        "pages_ms": times,
        "first_ms": first,
        "pages_kb": sizes,
    }


if __name__ == "__main__":
    main()
