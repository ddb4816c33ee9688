"""Observations in brief: without the components a list does not show, put together without reading the rest.

A template is looked at once: where its components are, and which of the resource's own texts belong to those
that stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from reporting.fhir.database.layout.texts import SEPARATOR

# Codes of the components that stay: what a list of results shows beside the score.
KEPT = ("rating", "percentile", "rejection-reason")
_TAG = (
    '"tag":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":"SUBSETTED",'
    '"display":"Resource encoded in summary mode"}],'
)  # R4 search, section 3.1.1.5.9
_START = ',"component":['
_META = '"meta":{'
_SAME_FOR_ALL = ("bodySite", "referenceRange")  # in the order they stand in
_RANGE = ',"referenceRange":['
_CODE = re.compile(r'\{"code":\{"coding":\[\{[^\]]*?"code":"([^"]+)"')
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')


def brief(template: str, own: str) -> str | None:
    """The text of an Observation in brief; None where it has no components.

    What stays of a component is its code and value; its range is the same for all.

    Args:
        template: As ``texts.split`` made it.
        own: The Observation's own texts.
    """
    frame = _frame(template)
    if frame is None:
        return None
    pieces, places = frame
    parts = own.split(SEPARATOR)
    made = [pieces[0]]
    for piece, place in zip(pieces[1:], places, strict=True):
        made += (parts[place], piece)
    return "".join(made)


@lru_cache(maxsize=256)
def _frame(template: str) -> tuple[tuple[str, ...], tuple[int, ...]] | None:
    """Pieces of the brief text, and the numbers of the own texts between them."""
    begin = template.find(_START)
    if begin < 0 or _META not in template:
        return None
    first = begin + len(_START)
    spans = list(_objects(template, first))
    end = spans[-1][1]
    kept = [(low, high) for low, high in spans if _is_kept(template[low:high])]
    meta = template.index(_META) + len(_META)
    cuts = [("", 0, meta), (_TAG, meta, meta)]
    done = meta
    for low, high in _left_out(template, meta, begin):
        cuts.append(("", done, low))
        done = high
    cuts.append(("", done, first if kept else begin))
    for number, (low, high) in enumerate(kept):
        plain = template.find(_RANGE, low, high)  # comes last in a component
        cuts.append(("," if number else "", low, high if plain < 0 else plain))
        if plain >= 0:
            cuts.append(("", high - 1, high))
    cuts.append(("", end if kept else end + 1, len(template)))
    text, places = "", list[int]()
    for before, low, high in cuts:
        text += before + template[low:high]
        earlier = template.count(SEPARATOR, 0, low)
        places += range(earlier, earlier + template.count(SEPARATOR, low, high))
    return tuple(text.split(SEPARATOR)), tuple(places)


def _left_out(template: str, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Where elements stand that are the same for all, with the comma after each."""
    for name in _SAME_FOR_ALL:
        low = template.find(f'"{name}":', first, last)
        if low >= 0:
            _, high = next(_objects(template, low + len(name) + 3))
            yield low, high + 1


def _objects(text: str, first: int) -> Iterator[tuple[int, int]]:
    """Where each object of an array begins and ends, from after its bracket on."""
    depth, begin = 0, first
    for match in _TOKEN.finditer(text, first):
        token = match[0]
        if token in ("{", "["):
            begin = match.start() if depth == 0 else begin
            depth += 1
        elif token in ("}", "]"):
            depth -= 1
            if depth < 0:
                return
            if depth == 0:
                yield begin, match.end()


def _is_kept(component: str) -> bool:
    match = _CODE.match(component)
    return match is not None and match[1] in KEPT
