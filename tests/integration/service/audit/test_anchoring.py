"""The chain against signed checkpoints: what an owner of the database does is named by table and key."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from service.audit.anchoring.exporting import entry_of
from service.audit.anchoring.keys import make_key, trusted
from service.audit.anchoring.making import anchor_of, latest, make
from service.audit.anchoring.places import KEYS, Bucket, Directory, checkpoint_name, digests_name
from service.audit.anchoring.verifying import verify
from service.audit.processes import AuditThreads
from service.config import Settings
from service.database import ledger
from service.database.pool import Pool, transaction
from service.database.sealing import seals
from service.errors import CheckpointError, ConfigurationError
from service.records import LedgerEvent
from service.stack.waiting import wait_until
from tests.integration.service.audit.anchored import ATTACKS, Site, as_owner, make_anew, run


def test_an_honest_chain_is_intact_and_grows(site: Site, tmp_path: Path) -> None:
    outcome = site.look()
    assert outcome.faults == ()
    assert outcome.checkpoints == 2
    site.receive(3, first=24)  # behind the last checkpoint
    assert site.look().faults == ()
    assert site.look().entries > outcome.entries
    assert site.export(tmp_path / "chain.ndjson") == site.look().entries
    assert site.look_at(tmp_path / "chain.ndjson") == site.look()


@pytest.mark.parametrize("attack", ATTACKS)
def test_each_attack_is_named_in_the_database_and_in_an_export(
    site: Site, tmp_path: Path, attack: str
) -> None:
    act, said = ATTACKS[attack]
    with as_owner(site.pool) as connection:
        act(connection)
    assert any(re.search(said, fault) for fault in site.look().faults), site.look().faults
    site.export(tmp_path / "chain.ndjson")
    assert site.look_at(tmp_path / "chain.ndjson").faults == site.look().faults


@pytest.mark.parametrize("attack", ["recomputed", "recomputed without", "emptied", "truncated"])
def test_nothing_is_signed_of_a_chain_that_does_not_go_on(site: Site, attack: str) -> None:
    before = sorted(each.name for each in site.directory.iterdir())
    with as_owner(site.pool) as connection:
        ATTACKS[attack][0](connection)
    site.receive(50, first=100)
    with pytest.raises(CheckpointError, match="nothing is signed"):
        site.checkpoint()
    assert sorted(each.name for each in site.directory.iterdir()) == before


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda lines: [*lines[:4], *lines[5:]], r"entry 4 is missing"),
        (lambda lines: [*lines[:4], lines[5], lines[4], *lines[6:]], r"entry 4 is missing"),
        (lambda lines: [*lines[:5], lines[4], *lines[5:]], r"entry 5 is missing"),
        (lambda lines: lines[:11], r"the chain has 10 entries"),
        (lambda lines: lines[:1], r"the chain has 0 entries"),
        (
            lambda lines: [*lines[:4], lines[4].replace("received", "rejected"), *lines[5:]],
            r"entry 4.*changed",
        ),
    ],
    ids=["removed", "reordered", "doubled", "cut off", "emptied", "changed"],
)
def test_an_export_that_was_tampered_with(
    site: Site, tmp_path: Path, edit: Callable[[list[str]], list[str]], said: str
) -> None:
    path = tmp_path / "chain.ndjson"
    site.export(path)
    changed = edit(_lines(path))
    assert changed != _lines(path)
    path.write_text("\n".join(changed) + "\n")
    assert re.search(said, " ".join(site.look_at(path).faults))


@pytest.mark.parametrize(
    "content", ["", "nothing\n", '{"format":"other"}\n', '{"format":"semblance-chain-1"}\n{}\n']
)
def test_a_file_that_is_no_export_is_said(site: Site, tmp_path: Path, content: str) -> None:
    path = tmp_path / "chain.ndjson"
    path.write_text(content)
    with pytest.raises(CheckpointError, match="export"):
        site.look_at(path)


def test_a_checkpoint_that_was_forged_does_not_count(site: Site) -> None:
    newest = sorted(site.directory.glob("checkpoint-*"))[-1]
    newest.chmod(0o644)
    newest.write_text(newest.read_text().replace("digest ", "digest 00"))
    assert any(newest.name in fault for fault in site.look().faults)


def test_without_the_short_digests_the_forgery_still_shows(site: Site) -> None:
    for path in site.directory.glob("digests-*"):
        path.unlink()
    assert site.look().faults == ()
    with as_owner(site.pool) as connection:
        make_anew(connection)
    assert any("are not those of checkpoint-" in fault for fault in site.look().faults)


def test_another_first_key_is_not_believed(site: Site, tmp_path: Path) -> None:
    other = make_key(tmp_path / "other.key", "hospital-1")
    with (
        transaction(site.pool) as connection,
        pytest.raises(CheckpointError, match="another key than the one that was noted"),
    ):
        verify(map(entry_of, seals.sealed(connection)), Directory(site.directory), other.public.vkey())


def test_a_new_key_signs_only_once_the_old_one_has_vouched_for_it(site: Site, tmp_path: Path) -> None:
    make_key(tmp_path / "new.key", "hospital-2")
    renewed = Site(
        settings=site.settings.model_copy(update={"audit_key_file": tmp_path / "new.key"}),
        pool=site.pool,
        directory=site.directory,
        vkey=site.vkey,
    )
    renewed.receive(2, first=50)
    with pytest.raises(CheckpointError, match="keys rotate"):
        renewed.checkpoint()
    done = run("keys", "rotate", site.directory, tmp_path / "audit.key", tmp_path / "new.key")
    assert done.returncode == 0, done.stderr
    renewed.checkpoint()
    assert renewed.look().faults == ()
    assert renewed.look().checkpoints == 3
    listed = run("keys", "list", site.directory, "--key", site.vkey)
    assert [line.split("+")[0] for line in listed.stdout.splitlines()] == ["hospital-1", "hospital-2"]


def test_nothing_new_makes_no_checkpoint(site: Site) -> None:
    anchor = anchor_of(site.settings)
    assert anchor is not None
    with transaction(site.pool) as connection:
        assert make(connection, anchor) is None
    last = latest(Directory(site.directory), site.vkey)
    assert last is not None
    assert last.size == site.look().entries


def test_a_key_without_a_place_and_a_place_without_a_key_are_said(settings: Settings, tmp_path: Path) -> None:
    assert anchor_of(settings) is None
    with pytest.raises(ConfigurationError, match="audit_key_file"):
        anchor_of(settings.model_copy(update={"audit_checkpoint_dir": tmp_path}))
    make_key(tmp_path / "key", "one")
    with pytest.raises(ConfigurationError, match="audit_checkpoint_dir"):
        anchor_of(settings.model_copy(update={"audit_key_file": tmp_path / "key"}))


def test_the_relays_thread_signs_by_itself(site: Site) -> None:
    impatient = site.settings.model_copy(update={"audit_checkpoint_interval_s": 0.1})
    threads = AuditThreads(impatient, site.pool)
    threads.start()
    try:
        with transaction(site.pool) as connection:
            ledger.append(connection, LedgerEvent.REFUSED, sop_instance_uid="1.2.3", detail={"reason": "x"})
        wait_until(
            lambda: len(list(site.directory.glob("checkpoint-*"))) == 3, timeout_s=30, what="a checkpoint"
        )
    finally:
        threads.stop()
    assert site.look().faults == ()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A bucket with Object Lock of moto's S3."""
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    with mock_aws():
        boto3.client("s3").create_bucket(Bucket="audit", ObjectLockEnabledForBucket=True)
        yield Bucket("s3://audit/site", endpoint="", retention_days=30)


def test_a_bucket_keeps_checkpoints_that_nobody_can_delete(
    settings: Settings, pool: Pool, tmp_path: Path, bucket: Bucket
) -> None:
    key = make_key(tmp_path / "audit.key", "hospital-1")
    in_s3 = settings.model_copy(
        update={"audit_key_file": tmp_path / "audit.key", "audit_checkpoint_bucket": "s3://audit/site"}
    )
    site = Site(settings=in_s3, pool=pool, directory=tmp_path, vkey=key.public.vkey())
    site.receive(5)
    first = site.checkpoint()
    site.receive(5, first=5)
    second = site.checkpoint()
    assert bucket.sizes() == [first, second]
    assert trusted((bucket.get(KEYS) or b"").decode())[0].vkey() == key.public.vkey()
    with transaction(pool) as connection:
        outcome = verify(map(entry_of, seals.sealed(connection)), bucket, key.public.vkey())
    assert (outcome.faults, outcome.checkpoints) == ((), 2)

    client = boto3.client("s3")
    name = f"site/{checkpoint_name(first)}"
    held = client.head_object(Bucket="audit", Key=name)
    assert held["ObjectLockMode"] == "COMPLIANCE"
    with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
        client.delete_object(Bucket="audit", Key=name, VersionId=held["VersionId"])
    with pytest.raises(CheckpointError, match="says something else"):
        bucket.put(checkpoint_name(first), b"another")
    assert bucket.get(digests_name(99)) is None
