"""The commands of surgical outcomes on a real database."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from service.config import Settings
from service.database.pool import Pool
from service.exit_codes import ExitCode
from service.pipeline.context import Context
from service.storage.local import InstanceStore
from tests.command import semblance
from tests.integration.reporting.outcomes.clinic import ISSUER, LIP_REPAIR, Clinic, days

OPERATED = date(2023, 5, 10)


@pytest.fixture
def clinic(settings: Settings, pool: Pool, store: InstanceStore, monkeypatch: pytest.MonkeyPatch) -> Clinic:
    monkeypatch.setenv("SEMBLANCE_DATABASE_URL", settings.database_url)
    monkeypatch.setenv("SEMBLANCE_STORAGE_DIR", str(settings.storage_dir))
    return Clinic(Context(settings=settings, pool=pool, store=store))


def _said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    capsys.readouterr()
    assert semblance(*words) == code
    return capsys.readouterr().out


def test_operations_from_a_file(clinic: Clinic, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "operations.csv"
    header = "patient_id,issuer,procedure_code,performed_on\n"
    good = f"P-001,{ISSUER},{LIP_REPAIR},2023-05-10\n"
    file.write_text(header + good)
    dry = json.loads(_said(capsys, "procedures", "import", str(file), "--dry-run"))
    assert (dry["taken"], dry["new"]) == (False, 1)
    assert clinic.rows("SELECT * FROM procedure_case") == []
    assert json.loads(_said(capsys, "procedures", "import", str(file)))["taken"] is True
    assert json.loads(_said(capsys, "procedures", "import", str(file)))["unchanged"] == 1
    file.write_text(header + good + "P-002,x,1,yesterday\n")
    bad = json.loads(_said(capsys, "procedures", "import", str(file), code=ExitCode.FAILED))
    assert [(row["line"], row["column"]) for row in bad["bad"]] == [(3, "performed_on")]
    assert len(clinic.rows("SELECT * FROM procedure_case")) == 1


def test_a_person_decides_a_conflict(clinic: Clinic, capsys: pytest.CaptureFixture[str]) -> None:
    clinic.photograph("P-001", OPERATED - days(10), 1.0)
    clinic.photograph("P-001", OPERATED + days(350), 1.9)
    clinic.photograph("P-001", OPERATED + days(380), 1.5)
    stranger = clinic.photograph("P-002", OPERATED + days(380), 1.5)
    clinic.operate("P-001", OPERATED)
    clinic.settle()
    (line,) = _said(capsys, "outcomes", "conflicts").splitlines()
    conflict = json.loads(line)
    assert conflict["kind"] == "equal-quality"
    name, uid = conflict["conflict_id"], conflict["sop_instance_uids"][0]
    (other,) = clinic.rows("SELECT sop_instance_uid FROM instance WHERE instance_id = %s", stranger)
    _said(capsys, "outcomes", "conflicts", name, "--photograph", uid, code=ExitCode.USAGE)  # no reason
    wrong = ("outcomes", "conflicts", name, "--photograph", other["sop_instance_uid"], "--reason", "x")
    _said(capsys, *wrong, code=ExitCode.FAILED)
    _said(capsys, "outcomes", "conflicts", name, "--photograph", uid, "--reason", "eyes closed in the other")
    clinic.settle()
    assert _said(capsys, "outcomes", "conflicts") == ""
    (face,) = clinic.faces()
    assert face["after"] == 1.9
    (decision,) = clinic.rows("SELECT reason, author FROM pairing_decision")
    assert decision["reason"] == "eyes closed in the other"
    status = json.loads(_said(capsys, "outcomes", "status"))
    assert (status["patients_behind"], status["open_conflicts"]) == (0, 0)


def test_windows_phases_and_results_by_surgeon_need_reasons(
    clinic: Clinic, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    clinic.photograph("P-001", OPERATED - days(10), 1.0)
    clinic.photograph("P-001", OPERATED + days(350), 1.9)
    clinic.operate("P-001", OPERATED)
    clinic.settle()
    windows = json.loads(_said(capsys, "outcomes", "windows"))
    assert [each["name"] for each in windows][:3] == ["before", "6 months", "12 months"]
    file = tmp_path / "windows.json"
    file.write_text(json.dumps([windows[0], {**windows[2], "name": "a year"}]))
    _said(capsys, "outcomes", "windows", str(file), "--code", LIP_REPAIR, code=ExitCode.USAGE)
    _said(capsys, "outcomes", "windows", str(file), "--code", LIP_REPAIR, "--reason", "audit")
    clinic.settle()
    assert [face["window_name"] for face in clinic.faces()] == ["a year"]
    _said(capsys, "outcomes", "phases", "--begin", "2023-01-01", "--reason", "new protocol")
    lines = _said(capsys, "outcomes", "phases").splitlines()
    assert {json.loads(line)["reason"] for line in lines} == {"first result of this method", "new protocol"}
    export = ("outcomes", "export", "--code", LIP_REPAIR, "--window", "a year")
    assert "Practitioner/s1" not in _said(capsys, *export)
    _said(capsys, *export, "--with-surgeon", code=ExitCode.USAGE)
    assert "Practitioner/s1" in _said(capsys, *export, "--with-surgeon", "--reason", "appraisal")
    report = ("outcomes", "report", str(tmp_path / "report.pdf"), "--code", LIP_REPAIR, "--window", "a year")
    _said(capsys, *report, "--by", "anna")
    _said(capsys, "outcomes", "chart", "time", "--by", "anna")
    taken = clinic.rows("SELECT detail FROM ledger WHERE event = 'exported' ORDER BY ledger_id")
    assert [(each["detail"]["page"].split()[2], each["detail"]["by"] == "anna") for each in taken] == [
        ("export", False), ("export", False), ("report", True), ("chart", True),
    ]  # fmt: skip
    (access,) = clinic.rows("SELECT reason FROM access_reason")
    assert access["reason"] == "appraisal"
    funnel = ("outcomes", "chart", "funnel", "--code", LIP_REPAIR, "--by-unit", "surgeon")
    _said(capsys, *funnel, code=ExitCode.USAGE)
    _said(capsys, *funnel, "--reason", "x", code=ExitCode.FAILED)  # no risk model
