# ruff: noqa: S608 - SQL made of constants of this file
"""Fills a database with Observations as the product writes them, for ``bench.fhir``.

Every row is as long, and found by as much, as one of the product: the same builder, all its components, the
same identifiers. Patients follow a power law, as clinics see them. Search columns are each row's own, but of
the components four; what the others measure, and the bodies, come from a thousand. Rows are made by
PostgreSQL, not logged, and written without their indexes, which are made at the end; slots that nobody
searches get none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from typing import TypeVar
from uuid import UUID

import psycopg
from psycopg.rows import DictRow, dict_row

from reporting.fhir.builders.observation import build_observation
from reporting.fhir.builders.subject import Owner
from reporting.fhir.database.layout.templates import pack
from reporting.fhir.database.layout.texts import SEPARATOR
from reporting.fhir.database.layout.vocabulary import lay
from reporting.fhir.database.records import Draft
from reporting.fhir.render import draft_of
from reporting.fhir.site import Site
from reporting.identifiers import fhir_id
from tests.unit.reporting.photographs import CREATED_AT, STUDY_UID, appraised, context

T = TypeVar("T")

PATIENTS_PER_ROW = 1 / 40
MEASURED = ("rating", "percentile", "s-face", "z-face")  # components with slots 1 to 4, which are searched
_TABLES = ("fhir_resource", "fhir_observation", "fhir_token", "fhir_reference")
_AT_ONCE = 50_000
_WRITERS = 2
_BODIES = 1000
_PATIENT = "a-patient"
_SITE = Site(base_url="http://127.0.0.1/fhir", zone=UTC)
_FILLED = "filled by bench.fhir"
_DRAWN = (
    "date_trunc('second', timestamptz '2016-01-01 00:00Z' + random() * interval '3900 days') AS moment,"
    " round((2 + 1.2 * sqrt(-2 * ln(1 - random())) * cos(6.2831853 * random())) * 1e6) / 1e6 AS value"
)

Connection = psycopg.Connection[DictRow]


def key(kind: str, number: int) -> str:
    """Logical id that ``_key`` makes in SQL."""
    return str(UUID(hashlib.md5(f"{kind}{number}".encode(), usedforsecurity=False).hexdigest()))


def _key(kind: str, number: str) -> str:
    return f"md5('{kind}' || {number})::uuid::text"


def patients(rows: int) -> int:
    """How many patients so many Observations are of."""
    return max(1, int(rows * PATIENTS_PER_ROW))


def fill(url: str, rows: int) -> None:
    """Write so many Observations into a migrated, empty database."""
    with psycopg.connect(url, autocommit=True, row_factory=dict_row) as connection:
        for setting in ("fsync = off", "full_page_writes = off", "max_wal_size = '4GB'"):
            connection.execute(f"ALTER SYSTEM SET {setting}".encode())
        connection.execute("SELECT pg_reload_conf()")
        statements = _statements(connection, rows)
        indexes = _drop_indexes(connection)
        for table in (*_TABLES[1:], "fhir_date", "fhir_string", _TABLES[0]):  # what refers to it goes first
            connection.execute(f"ALTER TABLE {table} SET UNLOGGED".encode())
        ranges = range(0, rows, _AT_ONCE)

        def write(low: int) -> None:
            _write(url, statements, low, min(low + _AT_ONCE, rows))

        _all(write, ranges)
        connection.execute(
            "INSERT INTO fhir_observed_code SELECT DISTINCT code_system, code FROM fhir_observation"
        )
        connection.execute("VACUUM (FREEZE, ANALYZE)")
        _all(lambda definition: _make_index(url, definition), indexes)
        connection.execute(
            "SELECT setval(pg_get_serial_sequence('fhir_resource', 'resource_id'), %s)", (rows,)
        )
        connection.execute("ANALYZE fhir_observation")  # of the indexed expressions
        connection.execute(f"COMMENT ON TABLE fhir_observation IS '{_FILLED}'".encode())
        connection.execute("CHECKPOINT")


def is_filled(url: str) -> bool:
    """Whether ``fill`` has come to its end in this database."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT obj_description('fhir_observation'::regclass)").fetchone()
    return row == (_FILLED,)


def sizes(url: str) -> dict[str, int]:
    """Bytes of every table and index of FHIR, with what is kept beside their rows; the largest first."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT relname, pg_relation_size(oid) + CASE WHEN reltoastrelid = 0 THEN 0"
            " ELSE pg_total_relation_size(reltoastrelid) END AS size FROM pg_class"
            " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i') AND relname LIKE 'fhir%'"
            " ORDER BY size DESC"
        ).fetchall()
    return {str(name): int(size) for name, size in found if size > 0}


def _all(run: Callable[[T], None], over: Sequence[T]) -> None:
    with ThreadPoolExecutor(_WRITERS) as threads:
        list(threads.map(run, over))


def _drop_indexes(connection: Connection) -> list[str]:
    """Drop every index but the primary keys'; returns what makes them again, unique keys too."""
    rows = connection.execute(
        "SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition,"
        " (SELECT conname FROM pg_constraint WHERE conindid = indexrelid AND contype = 'u') AS unique_name,"
        " indrelid::regclass::text AS source FROM pg_index"
        " WHERE indrelid::regclass::text = ANY(%s) AND NOT indisprimary",
        (list(_TABLES),),
    ).fetchall()
    for row in rows:
        if row["unique_name"]:
            connection.execute(f"ALTER TABLE {row['source']} DROP CONSTRAINT {row['unique_name']}".encode())
        else:
            connection.execute(f"DROP INDEX {row['name']}".encode())
    unsearched = {f"fhir_observation_amount_{slot}" for slot in range(len(MEASURED) + 1, 41)}
    return [row["definition"] for row in rows if row["name"] not in unsearched]


def _make_index(url: str, definition: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET maintenance_work_mem = '512MB'")
        connection.execute("SET max_parallel_maintenance_workers = 0")
        connection.execute(definition.encode())


def _write(url: str, statements: Sequence[str], low: int, high: int) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("SET LOCAL session_replication_role = replica")  # what is made refers to itself
        connection.execute("SET LOCAL timezone = 'UTC'")
        for statement in statements:
            connection.execute(statement.replace("@low@", str(low)).replace("@high@", str(high)).encode())


def _sample() -> Draft:
    saved = appraised()
    study, report = fhir_id("ImagingStudy", STUDY_UID), fhir_id("DiagnosticReport", STUDY_UID)
    owner = Owner(patient=_PATIENT, members=(_PATIENT,), study=study, report=report, is_unknown=False)
    resource = build_observation(context(saved=saved), owner)
    return draft_of(resource, site=_SITE)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _statements(connection: Connection, rows: int) -> list[str]:
    """SQL that writes a range of rows, each with values of its own in the places of a sample's."""
    draft = _sample()
    hot = draft.index.observation
    assert hot is not None
    with connection.transaction():
        template_id, own = pack(connection, "Observation", draft.body(1, CREATED_AT))
        laid = lay(connection, draft.index.components, draft.index.codings)
    assert laid.amounts is not None
    varying = {
        draft.resource_id: "id",
        f"Patient/{_PATIENT}": "'Patient/' || patient",
        "ACC-77": "'ACC-' || n",
        f"Device/{hot.device}": "'Device/' || device",
    }
    tokens, references = [], []
    for token in draft.index.tokens:
        code = _quoted(token.code)
        if token.code.startswith("urn:uuid:"):
            code = f"'urn:uuid:' || {_key('i', 'n')}"
            varying[token.code] = code
        tokens.append(f"({token.param}, {_quoted(token.system)}, {varying.get(token.code, code)})")
    for reference in draft.index.references:
        target = _key("s", "n / 3") if reference.target_type == "ImagingStudy" else _key("m", "n")
        varying[f"{reference.target_type}/{reference.target_id}"] = f"'{reference.target_type}/' || {target}"
        references.append(f"({reference.param}, '{reference.target_type}', {target})")
    rest = [_number("2 + random()") if a is not None else "NULL" for a in laid.amounts[len(MEASURED) :]]
    own_amounts = ", ".join([_number("value + random() - 0.5")] * len(MEASURED))
    places = [f"amounts[{slot}]" for slot in range(1, len(laid.amounts) + 1)]
    connection.execute(
        "CREATE UNLOGGED TABLE bench_body AS SELECT n, rest, concat_ws(chr(31),"
        f" {', '.join(_pieces(own.split(SEPARATOR), draft, varying, places))}) AS body FROM (SELECT *,"
        f" ARRAY[{own_amounts}]::float8[] || rest AS amounts FROM (SELECT g AS n, {_DRAWN},"
        f" ARRAY[{', '.join(rest)}]::float8[] AS rest, {_key('o', 'g')} AS id,"
        f" {_key('d', 'g % 3')} AS device, {_key('p', 'g')} AS patient"
        f" FROM generate_series(0, {_BODIES - 1}) g) AS drawn) AS laid".encode()
    )
    absent = "NULL" if laid.absent is None else f"'{{{','.join(map(str, laid.absent))}}}'::smallint[]"
    codings = f"'{{{','.join(map(str, laid.codings))}}}'::integer[]"
    return [
        f"CREATE TEMP TABLE made ON COMMIT DROP AS SELECT g + 1 AS n, {_DRAWN}, {_key('o', 'g')} AS id,"
        f" {_key('p', f'floor({patients(rows)} * power(random(), 2))::bigint')} AS patient,"
        f" {_key('d', 'g % 3')} AS device FROM generate_series(@low@::bigint, @high@::bigint - 1) g",
        "INSERT INTO fhir_resource (resource_id, type, id, version_id, last_updated, author, patient,"
        " occurred, content_sha256, template_id, body) OVERRIDING SYSTEM VALUE"
        " SELECT made.n, 'Observation', id, 1, moment + interval '1 minute', 'semblance', patient, moment,"
        f" decode(repeat('00', 32), 'hex'), {template_id}, body"
        f" FROM made JOIN bench_body b ON b.n = made.n % {_BODIES}",
        "INSERT INTO fhir_observation (resource_id, patient, code_system, code, status, device, effective,"
        " effective_high, value, value_unit, amounts, absent, codings)"
        f" SELECT made.n, patient, {_quoted(hot.code_system)}, {_quoted(hot.code)}, 'final', device, moment,"
        f" moment + interval '1 second', value::numeric, '{hot.value_unit}',"
        f" ARRAY[{own_amounts}]::float8[] || rest, {absent}, {codings}"
        f" FROM made JOIN bench_body b ON b.n = made.n % {_BODIES}",
        "INSERT INTO fhir_token (resource_id, param, system, code)"
        f" SELECT n, t.* FROM made CROSS JOIN LATERAL (VALUES {', '.join(tokens)}) AS t",
        "INSERT INTO fhir_reference (resource_id, param, target_type, target_id)"
        f" SELECT n, t.* FROM made CROSS JOIN LATERAL (VALUES {', '.join(references)}) AS t",
    ]


def _number(expression: str) -> str:
    """A measure to a millionth, as the product rounds it."""
    return f"round(({expression}) * 1e6) / 1e6"


def _pieces(own: list[str], draft: Draft, varying: dict[str, str], places: list[str]) -> list[str]:
    """SQL of each of a resource's own texts."""
    hot = draft.index.observation
    assert hot is not None
    valued = [component for component in draft.index.components if component.value is not None]
    numbers = [(str(hot.value), "value")]
    numbers += [(str(component.value), place) for component, place in zip(valued, places, strict=False)]
    made = []
    for text in own:
        if numbers and text == numbers[0][0]:
            made.append(f"coalesce({numbers.pop(0)[1]}, 0)")
        elif text.startswith("2026-"):
            made.append('to_char(moment, \'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"\')')
        else:
            made.append(varying.get(text, _quoted(text)))
    assert not numbers
    return made
