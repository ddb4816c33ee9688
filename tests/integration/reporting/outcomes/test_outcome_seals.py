"""Operations, pairs, signals and decisions, changed by somebody who owns the database: all is named."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from uuid import UUID

import pytest

from reporting.outcomes.database import phases, signals
from reporting.outcomes.simulation.world import simulate
from reporting.outcomes.simulation.writing import CODE, pair_all, write_world
from service.audit.trail import seal_pending, verify
from service.config import Settings
from service.database.pool import connect, open_pool
from service.stack.servers import EmbeddedPostgres
from tests.conftest import cloned_database, settings_of
from tests.seals import tampered, unnoticed

TABLES = (
    "access_reason", "annotation", "outcome_change", "outcome_validity", "outcome_window", "pairing_conflict",
    "pairing_decision", "phase", "photograph_role", "procedure_case", "risk_model", "signal",
    "signal_acknowledgement",
)  # fmt: skip


@pytest.fixture(scope="module")
def clinic(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A simulated clinic with at least a row in every table, all of them sealed."""
    with cloned_database(postgres) as url:
        settings = settings_of(url, tmp_path_factory.mktemp("seals"))
        with connect(settings) as connection:
            write_world(connection, simulate(photographs=120))
            pair_all(connection, settings)
            phases.begin(
                connection,
                phase="",
                method="",
                begins_on=date(2022, 1, 1),
                reason="new clinic",
                author="tester",
            )
            name = UUID(int=1)
            signals.add(
                connection, signal_id=name, chart="c", subject="s", rule="r", label="l", evidence=["1"],
                made_from={"phase": "p"},
            )  # fmt: skip
            signals.acknowledge(connection, name, reason="seen", author="tester", resets_on=None)
            connection.execute(
                "INSERT INTO outcome_window (code, version, name, role, anchor, target, earliest, latest,"
                " author, reason) VALUES ('x', 1, 'w', 'post', 'procedure', 1, 0, 2, 'a', 'r')"
            )
            connection.execute("INSERT INTO access_reason (author, what, reason) VALUES ('a', 'b', 'c')")
            connection.execute(
                "INSERT INTO annotation (on_day, procedure_code, note, author)"
                " VALUES ('2022-01-01', %s, 'n', 'a')",
                (CODE,),
            )
            connection.execute(
                "INSERT INTO pairing_decision (case_id, window_name, reason, author)"
                " SELECT case_id, '6 months', 'r', 'a' FROM procedure_case LIMIT 1"
            )
            connection.execute(
                "INSERT INTO risk_model (procedure_code, window_name, region, phase, version, model,"
                " performance, data_sha256, reason, author)"
                " VALUES ('a', 'b', 'c', 'd', 1, '{}', '{}', '', 'r', 'a')"
            )
            connection.execute(
                "UPDATE outcome_change SET valid = false, why_not = 'withdrawn' WHERE region = 'face'"
            )
        with open_pool(settings) as pool:
            seal_pending(pool, settings)
            seal_pending(pool, settings)
        with connect(settings) as connection:
            assert verify(connection).faults == ()
        yield settings


@pytest.mark.parametrize("table", TABLES)
def test_a_change_of_any_sealed_column_is_named(clinic: Settings, table: str) -> None:
    assert unnoticed(clinic.database_url, table) == []
    assert tampered(clinic.database_url, f"DELETE FROM {table}")  # noqa: S608 - names of ours


def test_a_change_made_better_with_all_triggers_at_work_is_refused_or_named(clinic: Settings) -> None:
    statement = "INSERT INTO photograph_role (case_id, window_name, role, decided_by, reason, author) SELECT"
    statement += " case_id, window_name, role, 'person', 'x', 'y' FROM photograph_role LIMIT 1"
    assert tampered(clinic.database_url, statement, as_superuser=False) == []  # waits for its seal, as others
    assert tampered(clinic.database_url, statement)
