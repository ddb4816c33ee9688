"""What is read from the photograph: identity, time, and nothing that a malformed value could break."""

from __future__ import annotations

import importlib
import struct
from datetime import UTC, date, datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from pydicom import Dataset, dcmread

from reporting.source import SourceIdentity, default_zone, offset_zone, read_source
from service.errors import ConfigurationError, ResultError
from tests.unit.reporting.charsets import CHARSETS, Charset
from tests.unit.reporting.photographs import SOP_UID, STUDY_UID, photograph

BERLIN = ZoneInfo("Europe/Berlin")


def identity(data: bytes) -> SourceIdentity:
    return read_source(data, BERLIN).identity


@pytest.mark.parametrize("encoding", [{"jpeg": True}, {"jpeg": False}, {"jpeg": False, "implicit": True}])
def test_everything_is_read_in_every_encoding(encoding: dict[str, bool]) -> None:
    found = identity(photograph(**encoding))  # type: ignore[arg-type]
    assert found.patient_id == "P-001"
    assert found.issuer_of_patient_id == "HOSPITAL-A"
    assert found.patient_name == "Doe^Jane"
    assert (found.patient_names[0].family, found.patient_names[0].given) == ("Doe", "Jane")
    assert found.patient_birth_date == date(2019, 2, 12)
    assert found.patient_sex == "F"
    assert found.accession_number == "ACC-77"
    assert found.study_instance_uid == STUDY_UID
    assert found.sop_instance_uid == SOP_UID
    assert found.study_date == date(2026, 3, 29)
    assert (found.rows, found.columns, found.number_of_frames) == (48, 40, 1)
    assert (found.series_number, found.instance_number) == (3, 7)
    assert found.manufacturer_model_name == "Model 5"


@pytest.mark.parametrize("charset", CHARSETS.values(), ids=CHARSETS)
def test_names_are_read_in_every_character_set(charset: Charset) -> None:
    found = identity(
        photograph(
            SpecificCharacterSet=charset.declared or None,
            PatientName=charset.patient_name,
            PatientID=charset.patient_id,
        )
    )
    assert found.patient_name.rstrip("=") == charset.patient_name.rstrip("=")
    assert found.patient_id == charset.patient_id


def test_each_representation_of_a_name_is_told_apart() -> None:
    charset = CHARSETS["japanese"]
    found = identity(photograph(SpecificCharacterSet=charset.declared, PatientName=charset.patient_name))
    assert [(n.representation, n.family, n.given) for n in found.patient_names] == [
        ("alphabetic", "Yamada", "Tarou"),
        ("ideographic", "山田", "太郎"),
        ("phonetic", "やまだ", "たろう"),
    ]


def test_what_is_missing_is_empty() -> None:
    found = identity(
        photograph(
            PatientID=None,
            IssuerOfPatientID=None,
            PatientName="",
            PatientBirthDate=None,
            PatientSex=None,
            AccessionNumber=None,
            InstanceNumber=None,
            AcquisitionDateTime=None,
            StudyDate="",
            StudyTime=None,
            TimezoneOffsetFromUTC=None,
        )
    )
    assert found.patient_id == found.issuer_of_patient_id == found.patient_name == found.patient_sex == ""
    assert found.patient_names == ()
    assert found.patient_birth_date is found.study_date is found.study_at is found.acquired_at is None
    assert found.acquired_on is found.instance_number is None  # type: ignore[comparison-overlap]
    assert found.timezone_offset == ""


def test_universal_issuer_is_read() -> None:
    item = Dataset()
    item.UniversalEntityID = "1.2.276.0.76.3.1.1"
    item.UniversalEntityIDType = "ISO"
    found = identity(photograph(IssuerOfPatientIDQualifiersSequence=[item]))
    assert (found.issuer_universal_id, found.issuer_universal_id_type) == ("1.2.276.0.76.3.1.1", "ISO")


def qualifiers(universal_id: str, kind: str) -> Dataset:
    item = Dataset()
    item.UniversalEntityID, item.UniversalEntityIDType = universal_id, kind
    return item


@pytest.mark.parametrize(
    ("local", "universal_id", "kind", "issuer"),
    [
        ("HOSPITAL-A", "1.2.276.0.76", "ISO", "HOSPITAL-A"),
        (None, "1.2.276.0.76", "ISO", "ISO:1.2.276.0.76"),
        (None, "1.2.276.0.76", "iso", "ISO:1.2.276.0.76"),
        (None, "hospital.example", "DNS", "DNS:hospital.example"),
        (None, "", "ISO", ""),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR CS:UserWarning")
def test_who_issued_a_number(local: str | None, universal_id: str, kind: str, issuer: str) -> None:
    elements = {
        "IssuerOfPatientID": local,
        "IssuerOfPatientIDQualifiersSequence": [qualifiers(universal_id, kind)],
    }
    assert identity(photograph(**elements)).issuer == issuer


def test_issuer_qualifiers_that_are_no_sequence_say_nothing() -> None:
    encoded = photograph(IssuerOfPatientID=None)
    at = encoded.index(struct.pack("<HH2s", 0x0010, 0x0030, b"DA"))
    odd = struct.pack("<HH2sH", 0x0010, 0x0024, b"LO", 4) + b"ACME"
    assert identity(encoded[:at] + odd + encoded[at:]).issuer == ""


def test_time_of_its_own_offset_wins() -> None:
    found = identity(photograph(AcquisitionDateTime="20260714120000.5-0330"))
    expected = datetime(2026, 7, 14, 12, 0, 0, 500_000, timezone(-timedelta(hours=3, minutes=30)))
    assert found.acquired_at == expected


def test_time_zone_of_the_data_set_wins_over_ours() -> None:
    found = identity(photograph(TimezoneOffsetFromUTC="+0900", AcquisitionDateTime="20260714120000"))
    assert found.acquired_at == datetime(2026, 7, 14, 3, 0, tzinfo=UTC)
    assert found.timezone_offset == "+0900"


@pytest.mark.parametrize(("day", "hours"), [("20260114", 11), ("20260714", 10)])
def test_our_zone_knows_summer_time(day: str, hours: int) -> None:
    found = identity(photograph(TimezoneOffsetFromUTC=None, AcquisitionDateTime=f"{day}120000"))
    assert found.acquired_at is not None
    assert found.acquired_at.astimezone(UTC).hour == hours


def test_the_best_date_is_taken_and_its_time_only_with_it() -> None:
    found = identity(
        photograph(
            AcquisitionDateTime=None, AcquisitionDate="20260301", ContentDate="20260302", ContentTime="10"
        )
    )
    assert found.acquired_on == date(2026, 3, 1)
    assert found.acquired_at is None


def test_a_time_of_the_same_day_is_taken() -> None:
    found = identity(
        photograph(
            AcquisitionDateTime=None, AcquisitionDate="20260302", ContentDate="20260302", ContentTime="10"
        )
    )
    assert found.acquired_at == datetime(2026, 3, 2, 10, tzinfo=timezone(timedelta(hours=1)))


@pytest.mark.filterwarnings("ignore:Invalid value for VR")  # of writing them, here
def test_malformed_values_are_as_good_as_none() -> None:
    found = identity(
        photograph(
            PatientBirthDate="19991345",
            PatientSex="W",
            StudyDate="yesterda",
            StudyTime="2561",
            TimezoneOffsetFromUTC="+99xx",
            AcquisitionDateTime="2026-03-29",
        )
    )
    assert found.patient_birth_date is found.study_date is found.study_at is None
    assert found.patient_sex == found.timezone_offset == ""


def test_reading_leaves_patient_and_study_as_sent() -> None:
    charset = CHARSETS["japanese"]
    data = photograph(SpecificCharacterSet=charset.declared, PatientName=charset.patient_name)
    source = read_source(data, BERLIN)
    raw = source.header.get_item("PatientName")
    assert raw is not None
    assert isinstance(raw.value, bytes)
    assert raw.value in data


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_a_photograph_nothing_can_refer_to_is_refused(keyword: str) -> None:
    with pytest.raises(ResultError, match="has no"):
        read_source(photograph(**{keyword: None}), BERLIN)


@pytest.mark.parametrize("data", [b"", b"no DICOM", b"\0" * 128 + b"DICM"])
def test_what_is_no_dicom_file_is_refused(data: bytes) -> None:
    with pytest.raises(ResultError):
        read_source(data, BERLIN)


def test_frames_are_counted() -> None:
    assert identity(photograph(NumberOfFrames=5)).number_of_frames == 5


@pytest.mark.parametrize(
    ("offset", "hours"), [("+0100", 1.0), ("-0330", -3.5), ("+1400", 14.0), ("+1500", None), ("+0160", None)]
)
def test_offsets(offset: str, hours: float | None) -> None:
    zone = offset_zone(offset)
    assert (None if zone is None else zone.utcoffset(None) / timedelta(hours=1)) == hours


def test_default_zone_is_the_named_one_or_this_machines() -> None:
    assert default_zone("Asia/Tokyo") == ZoneInfo("Asia/Tokyo")
    moment = datetime(2026, 7, 1, tzinfo=UTC)
    assert moment.astimezone(default_zone("")).utcoffset() == moment.astimezone().utcoffset()


def test_a_machine_without_a_zone_is_in_utc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TZ", raising=False)
    monkeypatch.setattr("reporting.source._LOCAL_TIME", tmp_path / "localtime")
    assert default_zone("") is UTC


def test_a_machine_in_no_zone_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    tzlocal_unix = importlib.import_module("tzlocal.unix")
    monkeypatch.setattr(tzlocal_unix, "_cache_tz", None)
    monkeypatch.setenv("TZ", "Nowhere/Land")
    with pytest.raises(ConfigurationError, match="time zone"):
        default_zone("")


def test_the_fixture_is_what_it_says() -> None:
    dataset = dcmread(BytesIO(photograph()))
    assert dataset.pixel_array.shape == (48, 40, 3)
