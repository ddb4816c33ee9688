"""Texts of resources parted and put together again."""

from __future__ import annotations

from datetime import UTC

import pytest

from reporting.fhir.builders.observation import build_observation
from reporting.fhir.builders.subject import Owner
from reporting.fhir.database.layout.texts import SEPARATOR, Frame, assemble, split
from reporting.fhir.render import draft_of
from reporting.fhir.site import Site
from tests.unit.reporting.photographs import CREATED_AT, appraised, context, rejected

OWNER = Owner(patient="p", members=("p",), study="s", report="r", is_unknown=False)
SITE = Site(base_url="http://x/fhir", zone=UTC)

TEXTS = [
    "",
    "{}",
    '{"resourceType":"Patient","name":[{"text":"Müller \\"the\\" \\\\"}]}',
    '{"id":"a\\"b","value":"x\\\\","reference":""}',
    '{"value":1.50,"low":{"value":-0.0},"many":[1,2,3],"e":1e-6,"text":"a:5,b"}',
    '{"note":"\\u001f","value":"\\u001f"}',
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_comes_back_byte_for_byte(text: str) -> None:
    template, own = split(text)
    assert assemble(template, own) == text
    assert Frame(template).fill(own.encode()) == text.encode()


@pytest.mark.parametrize("saved", [appraised(), rejected()])
def test_an_observation_comes_back_and_little_of_it_is_its_own(saved: object) -> None:
    made = build_observation(context(saved=saved), OWNER)  # type: ignore[arg-type]
    text = draft_of(made, site=SITE).body(1, CREATED_AT)
    template, own = split(text)
    assert assemble(template, own) == text
    assert len(own) < len(text) / 4


def test_observations_that_differ_in_their_values_have_one_template() -> None:
    made = build_observation(context(saved=appraised()), OWNER)
    other = {**made, "id": "another", "valueQuantity": {**made["valueQuantity"], "value": 3.25}}
    texts = [draft_of(each, site=SITE).body(n, CREATED_AT) for n, each in enumerate((made, other))]
    (first, own), (second, others) = (split(text) for text in texts)
    assert first == second
    assert own != others


def test_a_frame_can_be_filled_many_times() -> None:
    frame = Frame(f'{{"a":{SEPARATOR}}}')
    assert [frame.fill(b"1"), frame.fill(b"22"), frame.fill(b"1")] == [b'{"a":1}', b'{"a":22}', b'{"a":1}']
