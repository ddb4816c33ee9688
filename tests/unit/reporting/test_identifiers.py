"""Derived identifiers: the same for the same thing, different for any other, and well formed."""

from __future__ import annotations

import re
from uuid import UUID

import pytest
from pydicom.uid import UID

from reporting.identifiers import (
    ResultKind,
    fhir_id,
    frame_of_reference_uid,
    named_uid,
    result_uid,
    series_uid,
    tracking_uid,
)

APPRAISAL = UUID("7d444840-9dc0-11d1-b245-5ffdce74fad2")


def test_result_uids_are_derived_distinct_and_valid() -> None:
    uids = [result_uid(APPRAISAL, kind) for kind in ResultKind]
    uids += [result_uid(UUID(int=0), kind) for kind in ResultKind]
    assert uids == [
        result_uid(appraisal, kind) for appraisal in (APPRAISAL, UUID(int=0)) for kind in ResultKind
    ]
    assert len(set(uids)) == len(uids)
    assert all(UID(uid).is_valid and uid.startswith("2.25.") for uid in uids)


def test_result_uid_never_changes() -> None:
    # What an archive holds is found again only by this UID: a change here orphans every result sent.
    assert (
        result_uid(APPRAISAL, ResultKind.SECONDARY_CAPTURE) == "2.25.115633377320881759663545333804837953800"
    )
    assert fhir_id("Observation", str(APPRAISAL)) == "fe13864a-b160-56d0-b74c-b0d3cd2b8de9"


def test_a_series_is_shared_by_photographs_of_a_series_only() -> None:
    kind = ResultKind.SECONDARY_CAPTURE
    first = series_uid("1.2", "1.2.3", "2.25.9", kind)
    assert first == series_uid("1.2", "1.2.3", "2.25.9", kind)
    others = {
        series_uid("1.3", "1.2.3", "2.25.9", kind),
        series_uid("1.2", "1.2.4", "2.25.9", kind),
        series_uid("1.2", "1.2.3", "2.25.8", kind),
        series_uid("1.2", "1.2.3", "2.25.9", ResultKind.STRUCTURED_REPORT),
    }
    assert len(others) == 4
    assert first not in others


def test_parts_are_not_run_together() -> None:
    assert named_uid("ab", "c") != named_uid("a", "bc")
    assert named_uid("a", "") != named_uid("a")


def test_tracking_follows_the_patient_from_study_to_study() -> None:
    assert tracking_uid("A", "P", "1.2", "nose") == tracking_uid("A", "P", "1.3", "nose")
    assert tracking_uid("A", "P", "1.2", "nose") != tracking_uid("B", "P", "1.2", "nose")
    assert tracking_uid("A", "P", "1.2", "nose") != tracking_uid("A", "P", "1.2", "chin")


def test_tracking_without_a_patient_stays_within_the_study() -> None:
    assert tracking_uid("", "", "1.2", "nose") != tracking_uid("", "", "1.3", "nose")
    assert tracking_uid("", "", "1.2", "nose") != tracking_uid("", "1.2", "1.2", "nose")


def test_frames_of_reference_differ() -> None:
    assert frame_of_reference_uid("1.2") != frame_of_reference_uid("1.3")


@pytest.mark.parametrize("parts", [("a",), ("a", "b"), ("ü^=\\",), ()])
def test_fhir_ids_are_legal(parts: tuple[str, ...]) -> None:
    assert re.fullmatch(r"[A-Za-z0-9\-.]{1,64}", fhir_id("Patient", *parts))
    assert fhir_id("Patient", *parts) != fhir_id("Device", *parts)
