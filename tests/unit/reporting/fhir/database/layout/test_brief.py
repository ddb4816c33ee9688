"""Observations in brief."""

from __future__ import annotations

import json
from datetime import UTC
from typing import Any

import pytest

from reporting.fhir.builders.observation import build_observation
from reporting.fhir.builders.subject import Owner
from reporting.fhir.database.layout.brief import KEPT, brief
from reporting.fhir.database.layout.texts import split
from reporting.fhir.render import draft_of
from reporting.fhir.site import Site
from service.records import RejectionReason, SavedAppraisal
from tests.unit.reporting.photographs import CREATED_AT, appraised, context, rejected

LEFT_OUT = ("component", "bodySite", "referenceRange")
SITE = Site(base_url="http://x/fhir", zone=UTC)
OWNER = Owner(patient="p", members=("p",), study="s", report="r", is_unknown=False)


@pytest.mark.parametrize("saved", [appraised(), rejected(RejectionReason.BLURRED)])
def test_what_a_list_does_not_show_is_left_out_and_the_rest_is_as_it_was(saved: SavedAppraisal) -> None:
    text = draft_of(build_observation(context(saved=saved), OWNER), site=SITE).body(3, CREATED_AT)
    whole: dict[str, Any] = json.loads(text)
    short: dict[str, Any] = json.loads(brief(*split(text)) or "")
    assert short["meta"].pop("tag")[0]["code"] == "SUBSETTED"
    components = short.pop("component")
    assert short == {key: value for key, value in whole.items() if key not in LEFT_OUT}
    codes = [each["code"]["coding"][0]["code"] for each in components]
    assert codes == [
        c["code"]["coding"][0]["code"] for c in whole["component"] if c["code"]["coding"][0]["code"] in KEPT
    ]
    for each in components:
        assert any(each.items() <= one.items() for one in whole["component"])
    assert len(text) < 4000 or len(json.dumps(short)) < 3000


def test_what_has_no_components_has_no_brief() -> None:
    assert brief(*split('{"resourceType":"Observation","id":"a","meta":{"versionId":"1"}}')) is None
