"""Whether a resource keeps to a profile of ours, by the rules that its StructureDefinition states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reporting.fhir.outcome import Issue, IssueType
from reporting.fhir.valid.definitions import definitions


def profiles() -> Mapping[str, Mapping[str, Any]]:
    """StructureDefinitions of ours, by URL."""
    return {each["url"]: each for each in definitions() if each["resourceType"] == "StructureDefinition"}


def profile_issues(resource: Mapping[str, Any], url: str) -> Iterator[Issue]:
    """Yield what a resource breaks of a profile: least numbers, fixed patterns, types of a choice."""
    profile = profiles().get(url.partition("|")[0])
    if profile is None:
        text = f"the profile {url} is not known here"
        yield Issue(
            code=IssueType.NOT_SUPPORTED,
            diagnostics=text,
            expression=f"{resource['resourceType']}.meta.profile",
        )
        return
    if profile["type"] != resource["resourceType"]:
        yield Issue(
            code=IssueType.INVALID,
            diagnostics=f"{url} is a profile of {profile['type']}",
            expression=f"{resource['resourceType']}.meta.profile",
        )
        return
    for element in profile["differential"]["element"]:
        yield from _element_issues(resource, element)


def _element_issues(resource: Mapping[str, Any], element: Mapping[str, Any]) -> Iterator[Issue]:
    path = element["path"]
    name = path.partition(".")[2]
    if name.endswith("[x]"):
        stem = name.removesuffix("[x]")
        allowed = {stem + each["code"] for each in element.get("type", [])}
        for given in resource:
            if given.startswith(stem) and given[len(stem) :][:1].isupper() and given not in allowed:
                text = f"the profile allows {', '.join(sorted(allowed))}"
                yield Issue(code=IssueType.STRUCTURE, diagnostics=text, expression=path)
        return
    value = resource.get(name) if name else resource
    count = len(value) if isinstance(value, list) else int(value is not None)
    if count < element.get("min", 0):
        text = f"the profile asks for at least {element['min']}"
        yield Issue(code=IssueType.REQUIRED, diagnostics=text, expression=path)
    pattern = element.get("patternCodeableConcept")
    if pattern is not None and isinstance(value, dict):
        given_codings = value.get("coding", [])
        for wanted in pattern["coding"]:
            if not any(wanted.items() <= coding.items() for coding in given_codings):
                text = f"the profile asks for {wanted['system']}|{wanted['code']}"
                yield Issue(code=IssueType.VALUE, diagnostics=text, expression=path)
