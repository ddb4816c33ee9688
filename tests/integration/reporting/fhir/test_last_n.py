"""$lastn among many Observations: the newest of each code exactly, and no more read than asked for."""

from __future__ import annotations

import psycopg
import pytest

from reporting.fhir.database.records import Search
from reporting.fhir.database.searching import search as fhir_search
from reporting.fhir.http import Api
from reporting.fhir.search.search_request import parse
from service.database.pool import Connection, transaction
from tests.integration.reporting.fhir.conftest import SITE, Save

# Two systems share a code, dates are often the same, and the last code is of another patient alone.
_CODES = """
INSERT INTO fhir_observation (resource_id, patient, code_system, code, status, effective, effective_high)
SELECT resource_id, patient, CASE WHEN n % 8 = 1 THEN 'urn:second' ELSE 'urn:first' END,
       CASE WHEN patient IS NULL THEN 'none' WHEN patient = 'other' THEN 'others' WHEN n = 77 THEN 'rare'
            WHEN n % 8 < 6 THEN 'shared' ELSE 'plain' END,
       CASE WHEN n % 5 = 0 THEN 'entered-in-error' ELSE 'final' END, moment, moment + interval '1 second'
FROM (SELECT resource_id, patient, id::bigint AS n,
             timestamptz '2024-01-01' + id::bigint * 7919 % 300 * interval '1 day' AS moment
      FROM fhir_resource WHERE type = 'Observation' AND author = 'many') AS made
"""
_BY_RANK = """
SELECT page_row FROM (
    SELECT resource_id AS page_row, code, effective, row_number() OVER (
        PARTITION BY code_system, code ORDER BY effective DESC, resource_id DESC) AS place
    FROM fhir_observation o WHERE {where}) AS ranked
WHERE place <= %s ORDER BY code, effective DESC, page_row DESC
"""
_READ = """
SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) AS rows
FROM pg_stat_xact_user_tables WHERE relname = 'fhir_observation'
"""


@pytest.fixture
def many(api: Api, save: Save) -> Api:
    """The API with 6,000 more Observations: 4,000 of one patient, and some of nobody."""
    save()
    with transaction(api.pool) as connection:
        connection.execute(
            "INSERT INTO fhir_resource (type, id, version_id, last_updated, author, patient, content_sha256,"
            " template_id, body) SELECT 'Observation', n, 1, now(), 'many', CASE WHEN n <= 4000 THEN 'heavy'"
            " WHEN n <= 5500 THEN 'other' END, content_sha256, template_id, body"
            " FROM fhir_resource CROSS JOIN generate_series(1, 6000) AS n WHERE type = 'Observation'"
        )
        connection.execute(_CODES.encode())
        connection.execute("ANALYZE fhir_resource")
        connection.execute("ANALYZE fhir_observation")
    return api


def search(query: str) -> Search:
    pairs = [(name, value) for name, _, value in (part.partition("=") for part in query.split("&"))]
    return parse("Observation", pairs, strict=True, site=SITE).search


def rows_read(connection: Connection) -> int:
    """Rows of fhir_observation that this transaction has read."""
    row = connection.execute(_READ).fetchone()
    assert row is not None
    return int(row["rows"])


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("patient=heavy", "patient = 'heavy'"),
        ("patient=heavy&code=shared", "patient = 'heavy' AND code = 'shared'"),
        ("patient=heavy&code=shared,rare", "patient = 'heavy' AND code IN ('shared', 'rare')"),
        ("patient=heavy&code=urn:second|", "patient = 'heavy' AND code_system = 'urn:second'"),
        ("patient=heavy&code=others", "FALSE"),
        ("patient=heavy&status=entered-in-error", "patient = 'heavy' AND status = 'entered-in-error'"),
        ("patient=heavy&status:not=entered-in-error", "patient = 'heavy' AND status = 'final'"),
        (
            "patient=heavy&date=ge2024-03-01&date=lt2024-05-01",
            "patient = 'heavy' AND effective >= '2024-03-01' AND effective < '2024-05-01'",
        ),
        ("patient=heavy,other", "patient IN ('heavy', 'other')"),
        ("subject:missing=true", "patient IS NULL"),
        ("patient:missing=false", "patient IS NOT NULL"),
        ("patient=nobody", "FALSE"),
    ],
)
def test_the_newest_of_each_code_are_those_that_rank_first(many: Api, query: str, where: str) -> None:
    with transaction(many.pool) as connection:
        connection.execute("SET LOCAL timezone = 'UTC'")
        for most in (1, 4, 100):
            expected = connection.execute(_BY_RANK.format(where=where).encode(), (most,)).fetchall()
            found = fhir_search.last_n(connection, search(query), most)
            assert [stored.row_id for stored in found] == [row["page_row"] for row in expected]
            assert bool(found) is (where != "FALSE")


def test_no_more_are_read_than_asked_for(many: Api) -> None:
    with transaction(many.pool) as connection:
        before = rows_read(connection)
        found = fhir_search.last_n(connection, search("patient=heavy"), 3)
        assert len(found) == 3 + 3 + 3 + 1  # of four codes, one of which is rare
        assert rows_read(connection) - before < 100


def test_a_patients_newest_of_a_code_are_read_alone(many: Api) -> None:
    with transaction(many.pool) as connection:
        before = rows_read(connection)
        page = fhir_search.search(connection, search("patient=heavy&code=rare&date=ge2020-01-01&_count=20"))
        assert len(page.resources) == 1
        assert rows_read(connection) - before < 10


def test_the_database_keeps_the_codes(many: Api) -> None:
    with transaction(many.pool) as connection:
        connection.execute(
            "UPDATE fhir_observation SET code = 'corrected' WHERE patient = 'heavy' AND code = 'rare'"
        )
        kept = connection.execute("SELECT system, code FROM fhir_observed_code").fetchall()
        assert {("urn:first", "shared"), ("urn:second", "shared"), ("urn:first", "plain")} < {
            (row["system"], row["code"]) for row in kept
        }
        found = fhir_search.last_n(connection, search("patient=heavy&code=corrected"), 1)
        assert len(found) == 1


@pytest.mark.parametrize("dates", ["", "&date=ge2024-03-01", "&date=2024-03-01", "&date=lt2024-06"])
def test_a_page_of_a_patients_newest_of_a_code_is_found_in_the_index(many: Api, dates: str) -> None:
    with psycopg.connect(many.settings.database_url, autocommit=True) as connection:
        connection.execute("VACUUM fhir_observation")  # as PostgreSQL does by itself after many rows
    with transaction(many.pool) as connection:
        before = rows_read(connection)
        page = fhir_search.search(connection, search(f"patient=heavy&code=shared{dates}&_count=20"))
        assert len(page.resources) > 5
        assert rows_read(connection) == before
