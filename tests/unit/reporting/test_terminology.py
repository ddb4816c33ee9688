"""Codes against the dictionaries of DICOM, and our own against what DICOM and FHIR can carry."""

from __future__ import annotations

import re

import pytest
from pydicom.sr._concepts_dict import concepts as dictionary

from reporting import terminology
from reporting.terminology import (
    CODE_SYSTEM,
    DCM,
    EXCLUSION_REASONS,
    LN,
    OWN_CONCEPTS,
    QUALITY_MEASURES,
    REGION_SCORES,
    REJECTION_REASONS,
    SCT,
    SITES,
    UCUM,
    Concept,
)
from service.records import ExclusionReason, QualityMeasures, Region, RejectionReason

NAMED = {name: value for name, value in vars(terminology).items() if isinstance(value, Concept)}
# Not in pydicom's dictionaries; read in PS3.16 (TID 300, CID 3082), LOINC and SNOMED CT themselves.
ELSEWHERE = {"PHOTOGRAPHIC_IMAGE_DOCUMENT", "DIAGNOSTIC_IMAGING_STUDY", "PREOPERATIVE", "POSTOPERATIVE"}


@pytest.mark.parametrize(
    "name", sorted(n for n in NAMED if NAMED[n].system in (DCM, SCT) and n not in ELSEWHERE)
)
def test_public_codes_mean_what_the_standard_says(name: str) -> None:
    concept = NAMED[name]
    meanings = {
        meaning.lower()
        for values in dictionary[concept.system.designator].values()
        for value, (meaning, _) in values.items()
        if value == concept.code
    }
    assert concept.display.lower() in meanings


@pytest.mark.parametrize("concept", [*NAMED.values(), *OWN_CONCEPTS], ids=lambda c: c.code)
def test_codes_fit_their_elements(concept: Concept) -> None:
    assert 1 <= len(concept.code) <= 16  # SH
    assert 1 <= len(concept.display) <= 64  # LO
    assert (concept.code + concept.display).isascii()
    assert "\\" not in concept.code + concept.display


def test_own_concepts_are_all_published_and_each_once() -> None:
    codes = [concept.code for concept in OWN_CONCEPTS]
    assert len(set(codes)) == len(codes)
    assert {c for c in NAMED.values() if c.system is CODE_SYSTEM} <= set(OWN_CONCEPTS)


def test_every_member_of_the_closed_sets_has_its_code() -> None:
    assert set(REJECTION_REASONS) == set(RejectionReason)
    assert {reason: concept.code for reason, concept in REJECTION_REASONS.items()} == {
        reason: reason.value for reason in RejectionReason
    }
    assert set(EXCLUSION_REASONS) == set(ExclusionReason)
    assert set(SITES) == set(REGION_SCORES) == set(Region)
    assert set(QUALITY_MEASURES) == set(QualityMeasures.__dataclass_fields__)


def test_left_and_right_are_the_patients() -> None:
    for region, site in SITES.items():
        side = site.laterality.display.lower() if site.laterality else ""
        assert side == (region.value.split("-")[0] if region.value.startswith(("left", "right")) else "")


def test_systems_have_the_names_both_worlds_use() -> None:
    assert CODE_SYSTEM.designator.startswith("99")
    assert len(CODE_SYSTEM.designator) <= 16
    assert CODE_SYSTEM.uri == f"urn:oid:{CODE_SYSTEM.uid}"
    for system in (DCM, SCT, LN, UCUM):
        assert re.match(r"https?://", system.uri)
