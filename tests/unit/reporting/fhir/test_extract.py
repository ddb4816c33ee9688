"""Reading search values out of resources."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reporting.fhir.extract import fold, index_of, interval, split_reference, values_at
from reporting.fhir.site import Site
from service.errors import FhirError

BASE = "http://here/fhir"
SITE = Site(base_url=BASE, zone=UTC)


@pytest.mark.parametrize(
    ("text", "low", "span"),
    [
        ("2024", datetime(2024, 1, 1, tzinfo=UTC), timedelta(days=366)),
        ("2024-02", datetime(2024, 2, 1, tzinfo=UTC), timedelta(days=29)),
        ("2024-12", datetime(2024, 12, 1, tzinfo=UTC), timedelta(days=31)),
        ("2024-02-29", datetime(2024, 2, 29, tzinfo=UTC), timedelta(days=1)),
        ("2024-02-29T10:11Z", datetime(2024, 2, 29, 10, 11, tzinfo=UTC), timedelta(minutes=1)),
        ("2024-02-29T10:11:12Z", datetime(2024, 2, 29, 10, 11, 12, tzinfo=UTC), timedelta(seconds=1)),
        (
            "2024-02-29T10:11:12.5+02:00",
            datetime(2024, 2, 29, 8, 11, 12, 500000, tzinfo=UTC),
            timedelta(milliseconds=100),
        ),
        (
            "2024-02-29T10:11:12.123456789Z",
            datetime(2024, 2, 29, 10, 11, 12, 123456, tzinfo=UTC),
            timedelta(microseconds=1),
        ),
    ],
)
def test_a_date_spans_what_its_precision_says(text: str, low: datetime, span: timedelta) -> None:
    assert interval(text, UTC) == (low, low + span)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "2024-13",
        "2024-02-30",
        "24",
        "2024-1-1",
        "٢024",
        "2024-01-01\n",
        "2024-01-01T25:00Z",
        "2016-12-31T23:59:61Z",
        "9999-12-31T23:59:59-14:00",
    ],
)
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(FhirError):
        interval(text, UTC)


@pytest.mark.parametrize("text", ["9999", "9999-12", "9999-12-31", "9999-12-31T23:59:59Z"])
def test_the_last_dates_there_are_end_with_time(text: str) -> None:
    assert interval(text, UTC)[1] == datetime.max.replace(tzinfo=UTC)


def test_a_leap_second_is_counted_to_the_one_before() -> None:
    assert interval("2016-12-31T23:59:60Z", UTC) == interval("2016-12-31T23:59:59Z", UTC)


@given(st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1)))
def test_every_moment_is_within_its_day_and_second(moment: datetime) -> None:
    aware = moment.replace(tzinfo=UTC)
    for text in (aware.strftime("%Y-%m-%d"), aware.strftime("%Y-%m-%dT%H:%M:%SZ")):
        low, high = interval(text.zfill(len(text)), UTC)
        assert low <= aware < high


def test_references() -> None:
    assert split_reference("Patient/1", SITE) == ("Patient", "1")
    assert split_reference(f"{BASE}/Patient/1/_history/3", SITE) == ("Patient", "1")
    assert split_reference("http://there/fhir/Patient/1", SITE) == ("", "http://there/fhir/Patient/1")
    assert split_reference("urn:uuid:1", SITE) == ("", "urn:uuid:1")
    assert split_reference("#inside", SITE) is None


def test_paths_walk_arrays_and_filter() -> None:
    patient = {
        "telecom": [{"system": "phone", "value": "1"}, {"system": "email", "value": "a@b"}],
        "name": [{"given": ["A", "B"]}],
    }
    assert [t["value"] for t in values_at(patient, "telecom[system=email]")] == ["a@b"]
    assert list(values_at(patient, "name.given")) == ["A", "B"]
    assert list(values_at(patient, "address.city")) == []


def test_folding() -> None:
    assert fold("  Müller-Łukasz ÉÀ ") == "muller-łukasz ea"
    assert fold("山田") == "山田"


def test_open_periods_have_no_end() -> None:
    procedure = {
        "resourceType": "Procedure",
        "id": "1",
        "subject": {"reference": "Patient/p"},
        "performedPeriod": {"start": "2024"},
    }
    index = index_of(procedure, site=SITE)
    assert index.patient == "p"
    assert index.dates[0].high.year == 9999
    assert index.occurred == datetime(2024, 1, 1, tzinfo=UTC)


def test_an_observation_has_one_code() -> None:
    observation = {
        "resourceType": "Observation", "id": "1", "status": "final",
        "code": {"coding": [{"code": "a"}, {"code": "b"}]},
    }  # fmt: skip
    with pytest.raises(FhirError, match="one coding"):
        index_of(observation, site=SITE)
