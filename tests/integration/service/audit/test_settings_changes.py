"""A process that starts with other settings than before says which, with the values before and after."""

from __future__ import annotations

import pytest

from service.audit.activity import ApplicationActivity
from service.audit.settings_changes import note_changes, without_passwords
from service.audit.trail import seal_pending
from service.config import Settings
from service.database import ledger
from service.database.pool import Pool, transaction
from service.records import LedgerEvent
from service.stack.waiting import wait_until
from tests.audit import faults


def changes(pool: Pool, process: str = "node") -> dict[str, tuple[str, str]]:
    """Every change so far, the last of each setting."""
    with transaction(pool) as connection:
        lines = [e for e in ledger.latest(connection, 500) if e.event is LedgerEvent.SETTING_CHANGED]
    own = [each.detail for each in reversed(lines) if each.detail["process"] == process]
    return {each["setting"]: (each["before"], each["after"]) for each in own}


def note(pool: Pool, settings: Settings, process: str = "node") -> int:
    with transaction(pool) as connection:
        return note_changes(connection, settings, process)


def test_the_first_start_says_what_is_not_as_by_default(pool: Pool, settings: Settings) -> None:
    assert note(pool, settings)
    told = changes(pool)
    assert told["broker_url"] == ('"redis://localhost:6379/0"', '"memory://"')
    assert told["version"][0] == ""
    assert "dicom_ae_title" not in told


def test_a_start_like_the_last_says_nothing_and_another_says_what_differs(
    pool: Pool, settings: Settings
) -> None:
    note(pool, settings)
    assert note(pool, settings) == 0
    other = settings.model_copy(update={"dicom_ae_title": "FACES"})
    assert note(pool, other) == 1
    assert changes(pool)["dicom_ae_title"] == ('"SEMBLANCE"', '"FACES"')
    assert note(pool, settings) == 1  # and back
    assert changes(pool)["dicom_ae_title"] == ('"FACES"', '"SEMBLANCE"')


def test_each_process_has_a_history_of_its_own(pool: Pool, settings: Settings) -> None:
    note(pool, settings)
    assert note(pool, settings, "api")
    assert note(pool, settings, "api") == 0


def test_a_process_that_starts_writes_it_and_the_message_is_of_the_schema(
    pool: Pool, settings: Settings
) -> None:
    other = settings.model_copy(update={"organisation": "Clinic " + "x" * 100_000})
    with ApplicationActivity(other, pool, "relay"):
        wait_until(lambda: bool(changes(pool, "relay")), timeout_s=30, what="the lines")
    seal_pending(pool, other)
    with transaction(pool) as connection:
        rows = connection.execute("SELECT message FROM audit_message").fetchall()
    messages = [row["message"] for row in rows]
    told = [each for each in messages if "110131" in each]
    assert len(told) == len(changes(pool, "relay"))
    assert [faults(each) for each in told] == [[]] * len(told)
    assert max(map(len, told)) < 32_000


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("postgresql://semblance:secret@db/x", "postgresql://semblance:***@db/x"),
        ("postgresql:///x?host=db&password=secret&user=a", "postgresql:///x?host=db&password=***&user=a"),
        ("host=db password=secret user=a", "host=db password=*** user=a"),
        ("redis://:secret@redis:6379/0", "redis://:***@redis:6379/0"),
        ("amqp://a:s/e@c@rabbit//", None),
        ("https://ehr.example/hooks", "https://ehr.example/hooks"),
    ],
)
def test_no_password_is_told(text: str, told: str | None) -> None:
    assert without_passwords(text) == told if told else "s/e@c" not in without_passwords(text)


def test_a_setting_that_is_a_url_with_a_password_is_told_without(pool: Pool, settings: Settings) -> None:
    note(pool, settings.model_copy(update={"broker_url": "amqp://user:hidden@rabbit//"}))
    assert changes(pool)["broker_url"][1] == '"amqp://user:***@rabbit//"'
