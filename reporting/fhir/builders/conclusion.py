"""What was found, in plain words: conclusion, narrative and names of results of a DiagnosticReport.

An EHR that shows nothing but the report still tells its reader what was found. The words are made of the
Observations as they are issued, so they say the same, and change when one is amended or withdrawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from html import escape
from typing import Any

from reporting.fhir.elements import Element
from reporting.terminology import PERCENTILE, RATING, REGION_SCORES, REGION_Z_SCORES, REJECTION_REASON

BEYOND_NORM = 2  # standard deviations above the normal cohort's mean, from which on a region is named
_REGION = "Facial normality score of the "
CAUTION = "Decision support, not a diagnosis. Only scores of one method and calibration can be compared."
TITLE = "Report on facial difference"


def described(report: Element, observations: Sequence[Mapping[str, Any]]) -> Element:
    """The report with what was found in words.

    Args:
        report: A DiagnosticReport.
        observations: Its results, as they are.
    """
    by_name = {f"Observation/{each['id']}": each for each in observations}
    paragraphs = [list(sentences(each)) for each in in_order(observations)]
    results = [
        {**result, "display": name_of(by_name[result["reference"]])}
        if result["reference"] in by_name
        else result
        for result in report.get("result", [])
    ]
    if not paragraphs:
        return report
    words = {
        "text": {"status": "generated", "div": _narrative(paragraphs)},
        "conclusion": "\n\n".join([*(" ".join(lines) for lines in paragraphs), CAUTION]),
        "presentedForm": [
            {"contentType": "application/pdf", "url": f"Binary/{report['id']}", "title": TITLE}
        ],
    }
    return {**report, **words, "result": results}


def in_order(observations: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Observations by the time of their photographs, then by id."""
    return sorted(observations, key=lambda each: (str(each.get("effectiveDateTime", "")), str(each["id"])))


def name_of(observation: Mapping[str, Any]) -> str:
    """A result in a few words."""
    if observation["status"] == "entered-in-error":
        return f"Withdrawn: {_photograph(observation)}"
    value = observation.get("valueQuantity")
    if value is None:
        return f"Not judged: {_photograph(observation)}"
    rating = _component(observation, RATING.code)
    rated = f", rating {_number(rating, 1)} of 7" if rating is not None else ""
    return f"Score {_number(value, 2)}{rated}: {_photograph(observation)}"


def sentences(observation: Mapping[str, Any]) -> Iterator[str]:
    """What one result says."""
    name = _photograph(observation)
    yield f"{name[0].upper()}{name[1:]}:"
    if observation["status"] == "entered-in-error":
        yield "the result was withdrawn and is not to be used."
        return
    if "valueQuantity" not in observation:
        yield f"could not be judged ({', '.join(_rejections(observation)) or 'no reason given'})."
    else:
        yield from _scores(observation)
        yield from _regions(observation)
        yield "Picture quality: every check passed."
    for note in observation.get("note", []):
        yield f"Note: {note['text']}."
    method = observation.get("method", {}).get("text")
    if method:
        yield f"Method: {method}."


def _photograph(observation: Mapping[str, Any]) -> str:
    taken = str(observation.get("effectiveDateTime", ""))
    if not taken:
        return "photograph of an unknown day"
    day, _, time = taken.partition("T")
    return f"photograph of {day}{' ' + time[:5] if time else ''}"


def _scores(observation: Mapping[str, Any]) -> Iterator[str]:
    yield f"facial normality score {_number(observation['valueQuantity'], 2)} (higher is more normal)."
    rating = _component(observation, RATING.code)
    if rating is not None:
        yield f"Rating {_number(rating, 1)} ({_rating_scale(observation)})."
    percentile = _component(observation, PERCENTILE.code)
    if percentile is not None:
        codes = {c["code"] for i in observation.get("interpretation", []) for c in i.get("coding", [])}
        place = "below its range (lowest 5 %)" if "L" in codes else "within its range"
        yield f"More normal than {_number(percentile, 0)} % of the normal cohort: {place}."


def _rating_scale(observation: Mapping[str, Any]) -> str:
    """What the rating's numbers mean and rest on, as the result says it."""
    part = _part(observation, RATING.code) or {}
    said = [str(each["text"]) for each in part.get("referenceRange", []) if "text" in each]
    return "; ".join(said) or "1 least to 7 most normal"


def _regions(observation: Mapping[str, Any]) -> Iterator[str]:
    beyond, measured = [], False
    for region, concept in REGION_Z_SCORES.items():
        z = _component(observation, concept.code)
        measured = measured or z is not None
        if z is not None and z["value"] > BEYOND_NORM:
            beyond.append((Decimal(z["value"]), _region_name(REGION_SCORES[region].display)))
    if beyond:
        named = ", ".join(f"{name} ({_round(z, 1)})" for z, name in sorted(beyond, reverse=True))
        yield f"Beyond the norm (z-score above {BEYOND_NORM}): {named}."
    elif measured:
        yield f"No region is beyond the norm (z-score above {BEYOND_NORM})."
    left_out = [
        f"{_region_name(concept.display)}{_why(part)}"
        for concept in REGION_SCORES.values()
        if (part := _part(observation, concept.code)) is not None and "dataAbsentReason" in part
    ]
    if left_out:
        yield f"Not judged: {', '.join(left_out)}."


def _region_name(display: str) -> str:
    return display.removeprefix(_REGION)


def _why(part: Mapping[str, Any]) -> str:
    text = part["dataAbsentReason"].get("text", "")
    return f" ({text[0].lower()}{text[1:]})" if text else ""


def _rejections(observation: Mapping[str, Any]) -> list[str]:
    part = _part(observation, REJECTION_REASON.code)
    codings = part["valueCodeableConcept"]["coding"] if part is not None else []
    return [f"{c['display'][0].lower()}{c['display'][1:]}" for c in codings]


def _part(observation: Mapping[str, Any], code: str) -> Mapping[str, Any] | None:
    for part in observation.get("component", []):
        if part["code"]["coding"][0]["code"] == code:
            found: Mapping[str, Any] = part
            return found
    return None


def _component(observation: Mapping[str, Any], code: str) -> Mapping[str, Any] | None:
    part = _part(observation, code)
    return part.get("valueQuantity") if part is not None else None


def _number(quantity: Mapping[str, Any], places: int) -> str:
    return _round(Decimal(str(quantity["value"])), places)


def _round(value: Decimal, places: int) -> str:
    return f"{value:.{places}f}"


def _narrative(paragraphs: Sequence[Sequence[str]]) -> str:
    """XHTML of the paragraphs, each with its photograph in bold."""
    made = "".join(f"<p><b>{escape(lines[0])}</b> {escape(' '.join(lines[1:]))}</p>" for lines in paragraphs)
    return f'<div xmlns="http://www.w3.org/1999/xhtml">{made}<p>{escape(CAUTION)}</p></div>'
