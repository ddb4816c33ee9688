"""JPEG files with a worklist: proper objects with lasting UIDs; every row right and all taken, or none."""

from __future__ import annotations

import csv
import io
import subprocess
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from dicom_node.worklist.plan import contents, make_plan
from dicom_node.worklist.rows import read_worklist
from service.appraisal.photograph.decode import photograph_from_bytes
from service.config import Settings
from service.database import instances, ledger
from service.database.pool import Pool, transaction
from service.errors import ConfigurationError
from tests.integration.dicom_node.telling import run, told

HEADER = "file,patient,study,date,view"
TODAY = date(2026, 6, 1)


def jpeg(seed: int, **saved: object) -> bytes:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8))
    file = io.BytesIO()
    mode = str(saved.pop("mode", "RGB"))
    small.resize((96, 72)).convert(mode).save(file, "JPEG", quality=90, **saved)
    return file.getvalue()


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    """Two patients, three photographs, and their worklist."""
    folder = tmp_path / "photos"
    (folder / "anna").mkdir(parents=True)
    (folder / "anna" / "1.jpg").write_bytes(jpeg(1))
    (folder / "anna" / "2.JPG").write_bytes(jpeg(2, subsampling="4:4:4"))
    (folder / "ben.jpeg").write_bytes(jpeg(3, progressive=True))
    rows = (
        "anna/1.jpg;A1;before;31.01.2026;frontal",
        "anna/2.JPG;A1;before;2026-01-31;left profile",
        "ben.jpeg;B2;;20260201;",
    )
    (tmp_path / "list.csv").write_text("\n".join([HEADER.replace(",", ";"), *rows]), encoding="utf-8-sig")
    return tmp_path


def listed(clinic: Path, *rows: str, header: str = HEADER) -> Path:
    path = clinic / "list.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def reported(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def reasons(clinic: Path, *rows: str, header: str = HEADER) -> list[tuple[int, str]]:
    plan = make_plan(clinic / "photos", listed(clinic, *rows, header=header), issuer="", today=TODAY)
    return [(bad.line, bad.reason) for bad in plan.bad]


def test_photographs_come_in_and_are_the_same_when_run_again(
    settings: Settings, pool: Pool, clinic: Path
) -> None:
    command = ("import", str(clinic / "photos"), "--worklist", str(clinic / "list.csv"), "--issuer", "CLINIC")
    dry = run(settings, *command, "--dry-run", "--report", str(clinic / "report.csv"))
    assert dry.returncode == 0, dry.stderr
    assert "3 photographs of 2 patients in 2 studies" in dry.stderr
    with transaction(pool) as connection:
        assert instances.newest(connection, 10) == []
    report = reported(clinic / "report.csv")
    assert [row["outcome"] for row in report] == ["would be taken"] * 3
    uids = [row["sop_instance_uid"] for row in report]
    for events in (["received"], ["received", "received-again"]):
        done = run(settings, *command, "--report", str(clinic / "report.csv"), "--by", "nurse")
        assert done.returncode == 0, done.stderr
        report = reported(clinic / "report.csv")
        assert [row["outcome"] for row in report] == ["taken"] * 3
        assert [row["sop_instance_uid"] for row in report] == uids
        with transaction(pool) as connection:
            assert len(instances.newest(connection, 10)) == 3
            for uid in uids:
                assert [each.event.value for each in ledger.entries(connection, uid)] == events
    assert len(told(pool, "110107")) == 4  # one for each study and run


def test_a_corrected_worklist_corrects_the_same_instances(
    settings: Settings, pool: Pool, clinic: Path
) -> None:
    command = ("import", str(clinic / "photos"), "--worklist", str(clinic / "list.csv"))
    assert run(settings, *command).returncode == 0
    listed(clinic, "anna/1.jpg,A9,before,2026-01-31,frontal")
    done = run(settings, *command)
    assert done.returncode == 0, done.stderr
    assert "ben.jpeg: not in the worklist" in done.stderr
    with transaction(pool) as connection:
        held = {each.patient_id: each for each in instances.newest(connection, 10)}
    assert sorted(held) == ["A1", "A9", "B2"]
    assert held["A9"].version == 2


def test_one_bad_row_and_nothing_is_taken(settings: Settings, pool: Pool, clinic: Path) -> None:
    listed(clinic, "anna/1.jpg,A1,before,2026-01-31,frontal", "anna/none.jpg,A1,before,2026-01-31,frontal")
    report = clinic / "report.csv"
    done = run(
        settings,
        "import",
        str(clinic / "photos"),
        "--worklist",
        str(clinic / "list.csv"),
        "--report",
        str(report),
    )
    assert done.returncode == 1
    assert "line 3, anna/none.jpg: there is no such file" in done.stderr
    assert "nothing was taken" in done.stderr
    outcomes = {row["file"]: row["outcome"] for row in reported(report)}
    assert outcomes["anna/1.jpg"] == "not taken"
    assert outcomes["anna/none.jpg"] == "bad"
    assert outcomes["ben.jpeg"] == "not in the worklist"
    with transaction(pool) as connection:
        assert instances.newest(connection, 10) == []


def test_every_fault_of_a_row_is_said_with_its_line(clinic: Path) -> None:
    photos = clinic / "photos"
    (photos / "text.jpg").write_text("no JPEG")
    (photos / "cut.jpg").write_bytes(jpeg(5)[:-200])
    (photos / "copy.jpg").write_bytes(jpeg(1))
    (photos / "cmyk.jpg").write_bytes(jpeg(6, mode="CMYK"))
    (photos / "rgb.jpg").write_bytes(jpeg(8, keep_rgb=True))
    (clinic / "outside.jpg").write_bytes(jpeg(7))
    rows = (
        "anna/1.jpg,A1,before,2026-01-31,frontal",
        ",A1,before,2026-01-31,frontal",
        "ben.jpeg,,before,2026-01-31,frontal",
        "ben.jpeg,B2,before,31/01/2026,frontal",
        "ben.jpeg,B2,before,2027-01-31,frontal",
        "ben.jpeg,B2",
        "ben.jpeg,B\\2,before,2026-01-31,frontal",
        f"ben.jpeg,{'9' * 65},before,2026-01-31,frontal",
        "anna/1.jpg,B2,before,2026-01-31,frontal",
        "copy.jpg,B2,before,2026-01-31,frontal",
        "text.jpg,B2,before,2026-01-31,frontal",
        "cut.jpg,B2,before,2026-01-31,frontal",
        "cmyk.jpg,B2,before,2026-01-31,frontal",
        "../outside.jpg,B2,before,2026-01-31,frontal",
        "anna,B2,before,2026-01-31,frontal",
        "rgb.jpg,B2,before,2026-01-31,frontal",
    )
    found = dict(reasons(clinic, *rows))
    wanted = {
        3: "file is empty",
        4: "patient is empty",
        5: "is a day",
        6: "in the future",
        7: "2 cells under 5 columns",
        8: "backslash",
        9: "more than 64 characters",
        10: "the same file as line 2",
        11: "the same photograph as line 2",
        12: "no JPEG",
        13: "no end marker",
        14: "4 components",
        15: "not in the folder",
        16: "no such file",
        17: "samples are RGB",
    }
    assert found.keys() == wanted.keys()
    assert {line: text for line, text in wanted.items() if text not in found[line]} == {}


def test_rows_that_contradict_each_other_are_bad(clinic: Path) -> None:
    uid = "1.2.3.4"
    assert reasons(
        clinic, f"anna/1.jpg,A1,{uid},2026-01-31,frontal", f"ben.jpeg,B2,{uid},2026-01-31,frontal"
    ) == [(3, "the study of line 2 is another patient's")]
    assert reasons(
        clinic, f"anna/1.jpg,A1,{uid},2026-01-31,frontal", f"anna/2.JPG,A1,{uid},2026-02-01,frontal"
    ) == [(3, "the study of line 2 has another date")]
    assert reasons(
        clinic,
        "anna/1.jpg,A1,,2026-01-31,,Doe^Anna",
        "anna/2.JPG,A1,,2026-01-31,,Roe^Anna",
        header=HEADER + ",name",
    ) == [(3, "line 2 has another name of this patient")]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "missing: file"),
        (b"file,patient,study,date\n", "missing: view"),
        (b"file,patient,study,date,view,shoe\n", "unknown: shoe"),
        (b"file,photo,patient,study,date,view\n", "doubled: file"),
        (HEADER.encode() + b"\n", "holds no row"),
        (HEADER.encode() + b"\n\xff", "not UTF-8"),
        (HEADER.encode() + b"\n\0", "NUL"),
        (HEADER.encode() + b'\n"a', "no CSV file"),
    ],
)
def test_what_is_no_worklist_is_said(clinic: Path, content: bytes, said: str) -> None:
    (clinic / "list.csv").write_bytes(content)
    with pytest.raises(ConfigurationError, match=said):
        make_plan(clinic / "photos", clinic / "list.csv", issuer="", today=TODAY)


def test_spreadsheets_of_many_countries_are_read() -> None:
    for delimiter in ",;\t":
        head = HEADER.replace(",", delimiter)
        row = delimiter.join(("a.jpg", "Ä1", "vor OP", "31.01.2026", "frontal"))
        rows, bad = read_worklist(f"\ufeff{head}\r\n{row}\r\n\r\n".encode(), issuer="H", today=TODAY)
        assert bad == []
        assert (rows[0].patient, rows[0].issuer, rows[0].day, rows[0].line) == (
            "Ä1",
            "H",
            date(2026, 1, 31),
            2,
        )


@pytest.mark.peers("dciodvfy")
@pytest.mark.parametrize(
    ("saved", "photometric"),
    [
        ({}, "YBR_FULL_422"),
        ({"subsampling": "4:4:4"}, "YBR_FULL_422"),
        ({"progressive": True}, "YBR_FULL_422"),
        ({"mode": "L"}, "MONOCHROME2"),
    ],
)
def test_objects_are_valid_and_show_the_file(
    clinic: Path, saved: dict[str, object], photometric: str
) -> None:
    content = jpeg(9, **saved)
    (clinic / "photos" / "one.jpg").write_bytes(content)
    path = listed(
        clinic,
        "one.jpg,A1,before,2026-01-31,frontal,Doe^Anna,1990-05-01,F",
        header=f"{HEADER},name,birth_date,sex",
    )
    plan = make_plan(clinic / "photos", path, issuer="CLINIC", today=TODAY)
    assert plan.bad == ()
    ((_, made),) = contents(plan)
    file = clinic / "made.dcm"
    file.write_bytes(made)
    said = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, check=False).stderr
    assert [line for line in said.splitlines() if line.startswith("Error")] == []
    ds = dcmread(io.BytesIO(made))
    assert ds.PhotometricInterpretation == photometric
    shown = photograph_from_bytes(made).rgb
    truth = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert np.abs(shown.astype(int) - truth).max() <= 2
