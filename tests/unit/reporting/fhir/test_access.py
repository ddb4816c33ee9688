"""Scopes as permissions, page links as seals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reporting.fhir.access import Principal, parse_scopes
from reporting.fhir.outcome import FhirProblemError
from reporting.fhir.search.paging import seal, unseal


def principal(scopes: str, patient: str | None = None) -> Principal:
    return Principal(client_id="c", scopes=parse_scopes(scopes), patient=patient)


@pytest.mark.parametrize(
    ("scopes", "resource_type", "access", "allowed"),
    [
        ("system/*.rs", "Observation", "r", True),
        ("system/*.rs", "Observation", "c", False),
        ("system/Observation.s", "Observation", "r", False),
        ("system/Patient.cruds", "Patient", "u", True),
        ("system/Observation.read", "Observation", "s", True),
        ("system/Patient.write", "Patient", "c", True),
        ("system/Patient.write", "Patient", "r", False),
        ("system/*.*", "Procedure", "c", True),
        ("user/*.rs", "Observation", "r", False),
        ("system/Banana.rs", "Observation", "r", False),
        ("system/Observation.x", "Observation", "r", False),
        ("openid fhirUser", "Observation", "r", False),
    ],
)
def test_scopes(scopes: str, resource_type: str, access: str, allowed: bool) -> None:
    assert principal(scopes).may(resource_type, access) is allowed


def test_a_system_scope_is_wider_than_a_patient_scope() -> None:
    both = principal("patient/*.rs system/Observation.rs", "p")
    assert both.grant("Observation", "r").patients is None
    assert both.grant("Media", "r").patients == ("p",)
    with pytest.raises(FhirProblemError):
        principal("patient/*.cruds", "p").grant("Practitioner", "c")


def test_a_scope_without_constraint_lifts_those_with() -> None:
    assert principal("system/Observation.rs?code=a").grant("Observation", "r").alternatives == (
        (("code", "a"),),
    )
    assert (
        principal("system/Observation.rs?code=a system/Observation.rs").grant("Observation", "r").alternatives
        == ()
    )


KEY = b"k" * 32


@given(st.lists(st.tuples(st.text(), st.text())), st.lists(st.none() | st.text()))
def test_a_page_link_comes_back_as_it_was(pairs: list[tuple[str, str]], after: list[str | None]) -> None:
    assert unseal(KEY, "kind", seal(KEY, "kind", pairs, after)) == (pairs, tuple(after))


@given(st.integers(min_value=0), st.sampled_from("ABCabc019-_"))
def test_a_changed_page_link_is_refused(place: int, letter: str) -> None:
    token = seal(KEY, "kind", [("patient", "1")], ["5"])
    place %= len(token) - 1  # the last letter's low bits may be padding
    changed = token[:place] + letter + token[place + 1 :]
    if changed != token:
        with pytest.raises(FhirProblemError):
            unseal(KEY, "kind", changed)


def test_a_page_link_is_for_one_place() -> None:
    token = seal(KEY, "search Observation", [], [])
    with pytest.raises(FhirProblemError):
        unseal(KEY, "search Patient", token)
    with pytest.raises(FhirProblemError):
        unseal(b"other" * 8, "search Observation", token)
