"""How resources lie in PostgreSQL: read by it alone, never changed, words of Observations kept once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.database.layout import templates as fhir_templates
from reporting.fhir.database.layout.texts import SEPARATOR
from reporting.fhir.database.layout.vocabulary import lay, vocabulary
from reporting.fhir.database.records import ComponentEntry, TokenEntry
from reporting.fhir.http import Api
from service.database.migrate import migrate
from service.database.pool import transaction
from tests.integration.reporting.fhir.conftest import Client, Save
from tests.integration.reporting.fhir.write.withdrawing import observation_of, withdraw


def component(code: str, value: str | None, unit: str | None = "1") -> ComponentEntry:
    return ComponentEntry(
        code_system="s", code=code, value=None if value is None else Decimal(value), value_unit=unit
    )


def rows(api: Api, query: str, *parameters: object) -> list[dict[str, Any]]:
    with transaction(api.pool) as connection:
        return connection.execute(query.encode(), parameters).fetchall()


def test_postgresql_alone_reads_what_is_served(api: Api, client: Client, save_photograph: Save) -> None:
    taken = observation_of(save_photograph(1))
    save_photograph(2)
    withdraw(client, taken)
    found = rows(api, "SELECT type, id, template_id, fhir_text(template_id, body) AS text FROM fhir_resource")
    templated = {row["type"] for row in found if row["template_id"] is not None}
    assert templated == {"Observation", "Media", "Provenance"}
    for row in found:
        if row["type"] != "AuditEvent":
            assert client.get(f"{row['type']}/{row['id']}").content.decode() == row["text"]
    past = rows(api, "SELECT fhir_text(template_id, body) AS text FROM fhir_history WHERE id = %s", taken)
    assert client.get(f"Observation/{taken}/_history/1").content.decode() == past[0]["text"]


def test_results_alike_share_a_template_and_take_little_room(api: Api, save_photograph: Save) -> None:
    for number in range(4):
        save_photograph(number, score=1.5 + number)
    found = rows(
        api,
        "SELECT template_id, length(body) AS own, length(fhir_text(template_id, body)) AS whole"
        " FROM fhir_resource WHERE type = 'Observation'",
    )
    assert len({row["template_id"] for row in found}) == 1
    assert all(row["own"] < row["whole"] / 8 for row in found)


@pytest.mark.parametrize("change", ["DELETE FROM fhir_template", "UPDATE fhir_template SET text = ''",
                                    "TRUNCATE fhir_template CASCADE"])  # fmt: skip
def test_templates_are_never_changed(api: Api, save_photograph: Save, change: str) -> None:
    save_photograph(1)
    with pytest.raises(psycopg.errors.RaiseException, match="insert-only"):
        rows(api, change)


def test_a_text_with_the_separator_is_kept_whole(api: Api) -> None:
    with transaction(api.pool) as connection:
        assert fhir_templates.pack(connection, "Observation", f"a{SEPARATOR}b") == (None, f"a{SEPARATOR}b")
        assert fhir_templates.pack(connection, "Patient", '{"id":"a"}') == (None, '{"id":"a"}')


def test_a_value_and_a_gap_lie_in_the_slots_of_what_they_measure(api: Api) -> None:
    with transaction(api.pool) as connection:
        first = lay(connection, [component("a", "1.5"), component("b", None)], [])
        second = lay(connection, [component("c", "-2"), component("a", None), component("a2", "7", None)], [])
        units = lay(connection, [component("a", "0.25", "mm")], [TokenEntry(param=101, system="", code="x")])
        words = vocabulary(connection)
    slots = {(m.code, m.unit): m.slot for m in words.measures}
    assert first.amounts is not None
    assert first.amounts[slots["a", "1"] - 1] == 1.5
    assert first.absent == [slots["b", "1"]]
    assert second.amounts is not None
    assert second.amounts[slots["a", "1"] - 1] is None
    assert second.amounts[slots["c", "1"] - 1] == -2
    assert second.amounts[slots["a2", ""] - 1] == 7
    assert units.amounts is not None
    assert units.amounts[slots["a", "mm"] - 1] == 0.25
    assert units.codings == [c.number for c in words.codings]


def test_writers_at_once_agree_on_the_places_of_new_words(api: Api) -> None:
    barrier = threading.Barrier(4)

    def write(name: str) -> None:
        barrier.wait()
        with transaction(api.pool) as connection:
            lay(connection, [component(name, "1"), component("shared", "2")], [])

    with ThreadPoolExecutor(4) as writers:
        list(writers.map(write, (f"n{i}" for i in range(4))))
    with transaction(api.pool) as connection:
        measures = vocabulary(connection).measures
    assert [m.slot for m in measures] == list(range(1, 6))
    assert sum(m.code == "shared" for m in measures) == 1


def test_a_measure_beyond_the_indexed_slots_is_found_too(
    api: Api, client: Client, save_photograph: Save
) -> None:
    with transaction(api.pool) as connection:
        lay(connection, [component(f"other{i}", "1") for i in range(60)], [])
    save_photograph(1)
    assert len(client.get("Observation?component-code-value-quantity=percentile$61").ids()) == 1
    assert client.get("Observation?component-code-value-quantity=percentile$gt61").ids() == []
    assert len(client.get("Observation?component-code=r-nothing,percentile").ids()) == 1
    assert client.get("Observation?component-code=r-nothing").ids() == []


def test_a_search_by_one_measure_reads_the_index_of_its_slot(api: Api, save_photograph: Save) -> None:
    save_photograph(1)
    with transaction(api.pool) as connection:
        slot = next(m.slot for m in vocabulary(connection).measures if m.code == "percentile")
        connection.execute("SET LOCAL enable_seqscan = off")
        connection.execute("SET LOCAL enable_bitmapscan = off")
        connection.execute("SET LOCAL enable_sort = off")
        plan = connection.execute(
            f"EXPLAIN SELECT 1 FROM fhir_observation o WHERE o.amounts[{slot}] < 50.5::numeric"  # noqa: S608
            f" ORDER BY o.amounts[{slot}], o.resource_id LIMIT 20".encode()
        ).fetchall()
    assert any(f"fhir_observation_amount_{slot} " in row["QUERY PLAN"] for row in plan)


_BEFORE = """
INSERT INTO fhir_resource (type, id, version_id, last_updated, author, content_sha256, body)
    VALUES ('Observation', 'a', 1, now(), 'semblance', '\\x00', '{"whole":1}'), ('Observation', 'b', 1, now(),
    'semblance', '\\x00', '{"whole":2}');
INSERT INTO fhir_observation (resource_id, code_system, code, status, effective, effective_high)
    SELECT resource_id, 's', 'score', 'final', now(), now() + interval '1 second' FROM fhir_resource;
INSERT INTO fhir_component (resource_id, code_system, code, value, value_unit)
    SELECT resource_id, 's', 'x', 1.25, 'mm' FROM fhir_resource WHERE id = 'a'
    UNION ALL SELECT resource_id, 's', 'y', NULL, NULL FROM fhir_resource
    UNION ALL SELECT resource_id, 's', 'z', -3, NULL FROM fhir_resource WHERE id = 'b';
INSERT INTO fhir_token (resource_id, param, system, code)
    SELECT resource_id, 101, 'c', 'imaging' FROM fhir_resource
    UNION ALL SELECT resource_id, 102, 'i', id FROM fhir_resource;
"""


def test_what_was_written_before_the_migration_is_found_after_it(empty_database_url: str) -> None:
    migrate(empty_database_url, "0071")
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(_BEFORE.encode())
    migrate(empty_database_url)
    with psycopg.connect(empty_database_url, row_factory=psycopg.rows.dict_row) as connection:
        slots = {m.code: m.slot for m in vocabulary(connection).measures}
        found = connection.execute(
            "SELECT id, amounts, absent, codings FROM fhir_observation JOIN fhir_resource USING (resource_id)"
            " ORDER BY id"
        ).fetchall()
        a, b = found
        assert (a["amounts"][slots["x"] - 1], b["amounts"][slots["z"] - 1]) == (1.25, -3)
        assert a["absent"] == b["absent"] == [slots["y"]]
        assert a["codings"] == b["codings"] == [c.number for c in vocabulary(connection).codings]
        left = connection.execute("SELECT param FROM fhir_token").fetchall()
        assert [row["param"] for row in left] == [102, 102]
        stored = fhir_resources.read(connection, "Observation", "a")
        assert stored is not None
        assert stored.body == '{"whole":1}'


def damaged(api: Api, resource_type: str, name: str) -> None:
    with transaction(api.pool) as connection:
        connection.execute("ALTER TABLE fhir_resource DISABLE TRIGGER USER")
        connection.execute(
            "UPDATE fhir_resource SET body = '{\"id\":', template_id = NULL WHERE type = %s AND id = %s",
            (resource_type, name),
        )
        connection.execute("ALTER TABLE fhir_resource ENABLE TRIGGER USER")


@pytest.mark.parametrize("form", ["_summary=true", "_elements=name", "_pretty=true", "_summary=text"])
@pytest.mark.parametrize("search", ["Patient/{}?", "Patient?_id={}&"])
def test_a_resource_that_was_damaged_is_our_fault_and_not_the_askers(
    api: Api, client: Client, form: str, search: str
) -> None:
    for name in ("whole", "broken"):
        made = client.ask("PUT", f"Patient/{name}", {"resourceType": "Patient", "id": name})
        assert made.status == 201
    damaged(api, "Patient", "broken")
    answer = client.get(f"{search.format('broken')}{form}")
    assert answer.status == 500
    assert answer.json()["issue"][0]["code"] == "exception"
    assert client.get(f"{search.format('whole')}{form}").status == 200
