"""The commands of the anchored chain, and the proof that a third party checks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from service.commands.program import PROGRAM
from service.database.pool import transaction
from tests.integration.service.audit.anchored import ATTACKS, Site, as_owner, make_anew, run

DOCS = Path(__file__).resolve().parents[4] / "docs" / "audit.md"


def test_the_commands_from_a_key_to_a_verdict(site: Site, tmp_path: Path) -> None:
    site.receive(2, first=60)
    made = run("checkpoint", settings=site.settings)
    assert made.returncode == 0, made.stderr
    assert "entries, root" in made.stdout
    told = run("verify", "--checkpoints", site.directory, "--key", site.vkey, settings=site.settings)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "3 signed checkpoints" in told.stdout
    written = run("export", tmp_path / "chain.ndjson", settings=site.settings)
    assert written.returncode == 0, written.stderr
    assert (tmp_path / "chain.ndjson").stat().st_mode & 0o077 == 0
    again = run("export", tmp_path / "chain.ndjson", settings=site.settings)
    assert again.returncode != 0
    assert "File exists" in again.stderr

    nowhere = {"SEMBLANCE_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    command = [
        *PROGRAM,
        "audit",
        "verify",
        "--file",
        tmp_path / "chain.ndjson",
        "--checkpoints",
        site.directory,
    ]
    offline = subprocess.run(
        list(map(str, command)), env=os.environ | nowhere, capture_output=True, text=True, check=False
    )
    assert offline.returncode == 0, offline.stderr
    assert offline.stdout.startswith("intact: ")

    with as_owner(site.pool) as connection:
        make_anew(connection)
    found = run("verify", "--checkpoints", site.directory, settings=site.settings)
    assert found.returncode == 1
    assert "ledger 4 (entry 4): not what was signed" in found.stdout
    assert "NOT intact" in found.stdout
    refused = run("checkpoint", settings=site.settings)
    assert refused.returncode == 1
    assert "nothing is signed" in refused.stderr


def _third_partys(tmp_path: Path) -> Path:
    """The page of code in the documentation, as it stands."""
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    path = tmp_path / "check.py"
    path.write_text(code)
    return path


def test_a_third_party_checks_a_proof_by_the_code_in_the_documentation(site: Site, tmp_path: Path) -> None:
    proof = tmp_path / "proof.json"
    written = run("prove", "1.2.7", proof, settings=site.settings)
    assert written.returncode == 0, written.stderr
    command = [sys.executable, "-I", str(_third_partys(tmp_path)), str(proof), site.vkey]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    lines = checked.stdout.splitlines()
    assert len(lines) == len(json.loads(proof.read_text())["entries"]) >= 2
    assert all(line.startswith("in the checkpoint of ") for line in lines)
    assert any(": instance 7 " in line for line in lines)

    for change in ('"received', '\\"received\\"'):
        text = proof.read_text()
        if change not in text:
            continue
        proof.write_text(text.replace(change, change.replace("received", "rejected"), 1))
        refused = subprocess.run(command, capture_output=True, text=True, check=False)
        assert refused.returncode == 1
        assert "NOT in the checkpoint: ledger" in refused.stderr
        break
    else:
        raise AssertionError("nothing of the ledger is in the proof")


def test_a_proof_of_what_is_not_there_or_not_yet_signed_is_refused(site: Site, tmp_path: Path) -> None:
    unknown = run("prove", "9.9.9", tmp_path / "a.json", settings=site.settings)
    assert unknown.returncode == 1
    assert "no photograph 9.9.9" in unknown.stderr
    site.receive(1, first=80)
    too_new = run("prove", "1.2.81", tmp_path / "b.json", settings=site.settings)
    assert too_new.returncode == 1
    assert "make one first" in too_new.stderr
    assert not (tmp_path / "b.json").exists()


@pytest.mark.parametrize(
    ("attack", "said"), [("changed", "changed since"), ("recomputed", "not the one that")]
)
def test_of_what_was_tampered_with_nothing_is_proven(
    site: Site, tmp_path: Path, attack: str, said: str
) -> None:
    with as_owner(site.pool) as connection:
        ATTACKS[attack][0](connection)
    with transaction(site.pool) as connection:
        line = connection.execute("SELECT sop_instance_uid FROM ledger WHERE ledger_id = 4").fetchone()
    assert line is not None
    refused = run("prove", line["sop_instance_uid"], tmp_path / "proof.json", settings=site.settings)
    assert refused.returncode == 1
    assert said in refused.stderr
    assert not (tmp_path / "proof.json").exists()
