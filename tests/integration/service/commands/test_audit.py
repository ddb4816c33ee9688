"""``semblance audit``: what it prints, how it ends, and that its use is audited."""

from __future__ import annotations

import json

import psycopg
import pytest
from typer.testing import CliRunner, Result

from service.audit.trail import seal_pending
from service.commands.main import app
from service.config import Settings
from service.database import instances
from service.database.pool import Pool, transaction
from service.exit_codes import ExitCode
from tests.audit import faults
from tests.records import offered


@pytest.fixture
def sealed(pool: Pool, settings: Settings) -> Settings:
    """A database with two photographs and their audit message, sealed."""
    with transaction(pool) as connection:
        for uid in ("1.2.1", "1.2.2"):
            instances.receive(connection, offered(uid))
    seal_pending(pool, settings)
    seal_pending(pool, settings)
    return settings


def audit(settings: Settings, *arguments: str) -> Result:
    return CliRunner().invoke(
        app, ["audit", *arguments], env={"SEMBLANCE_DATABASE_URL": settings.database_url, "COLUMNS": "250"}
    )


def test_an_intact_chain_is_verified_and_its_end_can_be_held_against_it(sealed: Settings) -> None:
    first = audit(sealed, "verify")
    assert first.exit_code == ExitCode.DONE, first.output
    said, checkpoint = first.stdout.splitlines()
    assert said == "intact: 5 entries sealed, 0 not yet"
    assert checkpoint.startswith("5:")
    again = audit(sealed, "verify", "--checkpoint", checkpoint)
    assert again.exit_code == ExitCode.DONE
    assert "1 not yet" in again.stdout  # that the log was used is in it, too


def test_tampering_is_named_and_fails(sealed: Settings) -> None:
    with psycopg.connect(sealed.database_url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE ledger SET sop_instance_uid = '6.6' WHERE sop_instance_uid = '1.2.2'")
    done = audit(sealed, "verify")
    assert done.exit_code == ExitCode.FAILED
    assert done.stdout.splitlines()[0] == "ledger 2: changed"
    assert "NOT intact" in done.stdout


@pytest.mark.parametrize("wrong", ["3", "3:abc", "x:" + "0" * 64])
def test_what_is_no_checkpoint_is_wrong_usage(sealed: Settings, wrong: str) -> None:
    assert audit(sealed, "verify", "--checkpoint", wrong).exit_code == ExitCode.USAGE


def test_a_checkpoint_of_another_chain_fails(sealed: Settings) -> None:
    done = audit(sealed, "verify", "--checkpoint", "2:" + "0" * 64)
    assert done.exit_code == ExitCode.FAILED
    assert "seal 2: not the checkpoint's digest" in done.stdout


def test_messages_are_listed_and_the_reading_is_one(sealed: Settings) -> None:
    audit(sealed, "list")
    table = audit(sealed, "list").stdout
    assert "DICOM Instances Transferred" in table
    assert "Audit Log Used" in table
    listed = json.loads(audit(sealed, "list", "--limit", "2", "--output", "json").stdout)
    assert len(listed) == 2
    for each in listed:
        assert faults(each["message"]) == []
        assert "semblance:audit" in each["message"]
