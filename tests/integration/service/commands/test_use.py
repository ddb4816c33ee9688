"""Commands that look at results, act on them or take them away leave a line that says who."""

from __future__ import annotations

import getpass

import pytest
from typer.testing import CliRunner, Result

from service.audit.trail import seal_pending
from service.commands.main import app
from service.config import Settings
from service.database import dead_letters, instances, ledger, studies
from service.database.pool import Pool, transaction
from service.exit_codes import ExitCode
from service.records import InstanceState, LedgerEntry, LedgerEvent
from service.steps import APPRAISE
from tests.audit import faults, kept
from tests.records import offered

WHO = getpass.getuser()


def semblance(settings: Settings, *arguments: str) -> Result:
    environment = {"SEMBLANCE_DATABASE_URL": settings.database_url, "COLUMNS": "250"}
    return CliRunner().invoke(app, list(arguments), env=environment)


def newest(pool: Pool, event: LedgerEvent) -> LedgerEntry:
    with transaction(pool) as connection:
        return next(each for each in ledger.latest(connection, 20) if each.event is event)


def received(pool: Pool, *uids: str) -> None:
    with transaction(pool) as connection:
        for uid in uids:
            instances.receive(connection, offered(uid))


def test_who_looks_at_a_photograph_is_told_with_its_patient(pool: Pool, settings: Settings) -> None:
    received(pool, "1.2.1")
    assert semblance(settings, "status", "1.2.1").exit_code == ExitCode.DONE
    line = newest(pool, LedgerEvent.VIEWED)
    assert (line.sop_instance_uid, line.detail["by"], line.detail["page"]) == (
        "1.2.1", WHO, "semblance status 1.2.1",
    )  # fmt: skip
    seal_pending(pool, settings)
    (message,) = [each for each in kept(pool) if WHO in each.xpath("//ActiveParticipant/@UserID")]
    assert message[0].get("EventActionCode") == "R"
    assert message.xpath("//Instance/@UID") == ["1.2.1"]


def test_who_looks_at_a_study_looks_at_each_photograph_of_it(pool: Pool, settings: Settings) -> None:
    received(pool, "1.2.1", "1.2.2")
    with transaction(pool) as connection:
        both = list(instances.by_uids(connection, ["1.2.1", "1.2.2"]).values())
        study = both[0].study_instance_uid
        studies.received(connection, [each.instance_id for each in both])
    assert semblance(settings, "status", study).exit_code == ExitCode.DONE
    with transaction(pool) as connection:
        seen = {e.sop_instance_uid for e in ledger.latest(connection, 9) if e.event is LedgerEvent.VIEWED}
    assert seen == {"1.2.1", "1.2.2"}


@pytest.mark.parametrize("asked", [("status",), ("destinations",), ("status", "9.9.9")])
def test_who_looks_for_photographs_is_told(pool: Pool, settings: Settings, asked: tuple[str, ...]) -> None:
    semblance(settings, *asked)
    assert newest(pool, LedgerEvent.SEARCHED).detail["by"] == WHO


def test_who_takes_something_up_again_is_told(pool: Pool, settings: Settings) -> None:
    received(pool, "1.2.1")
    with transaction(pool) as connection:
        instance = instances.by_uid(connection, "1.2.1")
        instances.set_state(connection, instance.instance_id, InstanceState.DEAD)
        dead_letters.add(
            connection, instance_id=instance.instance_id, step=APPRAISE.task, error="broken", traceback="t"
        )
    assert semblance(settings, "retry", "1.2.1").exit_code == ExitCode.DONE
    assert newest(pool, LedgerEvent.RETRIED).detail["by"] == WHO


def test_messages_of_use_are_of_the_schema(pool: Pool, settings: Settings) -> None:
    received(pool, "1.2.1")
    semblance(settings, "status", "1.2.1")
    seal_pending(pool, settings)
    with transaction(pool) as connection:
        rows = connection.execute("SELECT message FROM audit_message").fetchall()
    assert [faults(row["message"]) for row in rows] == [[]] * len(rows)
