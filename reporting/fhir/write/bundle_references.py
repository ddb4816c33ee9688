"""References within a Bundle: to its entries, and by condition (R4 bundle.html#references).

A condition is looked up when everything the Bundle writes can be found, so the order of entries says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from reporting.fhir.database import references as fhir_references
from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.database.records import StoredResource
from reporting.fhir.extract import REFERENCE
from reporting.fhir.outcome import FhirProblemError, IssueType
from reporting.fhir.render import draft_of
from reporting.fhir.search_table import RESOURCE_TYPES
from reporting.fhir.site import Site
from reporting.fhir.write.bundle_entries import within
from reporting.fhir.write.writing import condition_at
from service.database.pool import Connection

_RESTFUL = re.compile(r"(?P<root>https?://\S+)/(?P<name>[A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64})\Z")
_NOT_YET = "not-looked-up"  # id in place of what a condition finds

# Matches of a condition on a type; refuses more than one.
Find = Callable[[str, str], list[StoredResource]]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a reference stands."""

    place: int  # of its entry in the Bundle
    path: str  # of the element, from the resource's type on


@dataclass(kw_only=True)
class BundleReferences:
    """Knows the entries of one Bundle, and replaces references to them."""

    connection: Connection
    site: Site
    find: Find
    known: dict[str, str] = field(default_factory=dict)  # fullUrl -> Type/id
    conditions: dict[tuple[str, str], Standing] = field(default_factory=dict)  # (type, query) -> where first

    def within(self, resource: Any, path: str, full_url: str, place: int) -> Any:
        """A resource with its references to entries replaced; conditions are noted, and stay.

        Args:
            resource: Of an entry.
            path: Of the resource.
            full_url: Of the entry; relative references are relative to it.
            place: Of the entry in the Bundle.

        Raises:
            FhirProblemError: 422: an entry is referred to that there is not.
        """

        def replace(target: str, where: str) -> str:
            return self._entry(target, Standing(place=place, path=where), full_url)

        return _replaced(resource, path, replace)

    def _entry(self, target: str, where: Standing, full_url: str) -> str:
        name = target.partition("/_history/")[0]
        if name in self.known:
            return self.known[name]
        relative = self.site.relative(target)
        resource_type, mark, query = relative.partition("?")
        if mark and resource_type in RESOURCE_TYPES:
            self.conditions.setdefault((resource_type, query), where)
            return relative
        if target.startswith(("urn:uuid:", "urn:oid:")):
            text = "no entry of the Bundle has this fullUrl"
            raise FhirProblemError(422, IssueType.NOT_FOUND, text, where.path)
        match = REFERENCE.match(target)
        return self._relative(target, f"{match['type']}/{match['id']}", full_url) if match else target

    def _relative(self, target: str, name: str, full_url: str) -> str:
        """A relative reference: below the root of the entry's own fullUrl, or of the only entry so named."""
        own = _RESTFUL.match(full_url)
        if own is not None:
            return self.known.get(f"{own['root']}/{name}", target)
        named = {
            entry
            for url, entry in self.known.items()
            if (match := _RESTFUL.match(url)) is not None and match["name"] == name
        }
        resource_type, _, resource_id = name.partition("/")
        if len(named) != 1 or fhir_references.existing(self.connection, [(resource_type, resource_id)]):
            return target
        return named.pop()

    def look_up(self, resources: Mapping[int, dict[str, Any]], author: str) -> dict[int, dict[str, Any]]:
        """Replace conditions by what they find, also among what is about to be written.

        Args:
            resources: By the place of their entry; valid but for their conditions.
            author: Who writes.

        Raises:
            FhirProblemError: 412: a condition has not one match.
        """
        found: dict[str, str] = {}
        with self.connection.transaction(force_rollback=True):  # written to be found, and taken back
            drafts = [draft_of(without_conditions(each), site=self.site) for each in resources.values()]
            fhir_resources.save(self.connection, drafts, author=author)
            for (resource_type, query), where in self.conditions.items():
                with within(where.place), condition_at(where.path):
                    found[f"{resource_type}?{query}"] = self._found(resource_type, query)
        return {
            place: _replaced(each, "", lambda target, _: found.get(target, target))
            for place, each in resources.items()
        }

    def _found(self, resource_type: str, query: str) -> str:
        matches = self.find(resource_type, query)
        if not matches:
            text = f"nothing matches the reference to a {resource_type}"
            raise FhirProblemError(412, IssueType.NOT_FOUND, text)
        return f"{resource_type}/{matches[0].resource_id}"


def without_conditions(resource: dict[str, Any]) -> dict[str, Any]:
    """A resource with something valid in place of each conditional reference."""

    def replace(target: str, _path: str) -> str:
        resource_type, mark, _ = target.partition("?")
        return f"{resource_type}/{_NOT_YET}" if mark and resource_type in RESOURCE_TYPES else target

    made: dict[str, Any] = _replaced(resource, "", replace)
    return made


def _replaced(value: Any, path: str, replace: Callable[[str, str], str]) -> Any:
    """An element with the text of every reference in it replaced."""
    if isinstance(value, list):
        return [_replaced(inner, f"{path}[{place}]", replace) for place, inner in enumerate(value)]
    if not isinstance(value, dict):
        return value
    made = {key: _replaced(inner, f"{path}.{key}", replace) for key, inner in value.items()}
    if isinstance(made.get("reference"), str):
        made["reference"] = replace(made["reference"], f"{path}.reference")
    return made
