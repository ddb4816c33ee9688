"""Bodies that are wrong in one place, of every type that can be written or validated."""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from reporting.fhir.search_table import RESOURCE_TYPES
from reporting.fhir.types.base import Interaction
from reporting.fhir.valid.json_types import Element, Kind, elements_of
from tests.integration.reporting.fhir.conftest import Answer, Client

# What stands in for anything.
WRONG: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 10**40, 1.5, 1e-7, "", " ", "yes", "0", "2", "3.5",
    "2019-02-30", "2019-13",
    "0000-01-01", "9999-12-31T23:59:60Z", "²", "\U0001f600", "a" * 3000, [], {}, [None], [[]], [{}], {"a": 1},
    {"reference": 5}, {"reference": "Patient/1"}, {"coding": "x"}, {"coding": [None]},
    {"coding": [{"code": 5}]},
    [{"system": 5, "value": []}], {"value": "1", "code": "mm"}, "Patient?identifier=1", "#x", "urn:uuid:1",
    {"extension": [{"url": 5}]}, {"extension": [{"url": "u", "valueDecimal": "3.5"}]},
    {"resourceType": "Patient"}, [{"resourceType": 5}], [{"resourceType": "Banana"}],
    "<div xmlns='http://www.w3.org/1999/xhtml'><script/></div>",
)  # fmt: skip
TEXTS = ("active", "2019-02-12", "2019-02-12T10:00:00Z", "urn:a", "text", "Patient/1")
_DEPTH = 3


@dataclass(frozen=True, kw_only=True)
class Sent:
    """One body, where it was sent, and how it was answered."""

    method: str
    url: str
    body: Any
    answer: Answer


def valid_element(element: Element, random_: random.Random, depth: int = 0) -> Any:
    """Something of the right JSON type, not always of a right value."""
    plain = {
        Kind.BOOLEAN: True,
        Kind.INTEGER: random_.choice([0, 1, 7]),
        Kind.DECIMAL: random_.choice([1, 2.5]),
        Kind.TEXT: random_.choice(
            ["active", "2019-02-12", "2019-02-12T10:00:00Z", "urn:a", "text", "Patient/1"]
        ),
    }
    if element.kind is not Kind.OBJECT:
        value = plain[element.kind]
    elif not element.type_name:
        value = {"resourceType": "Patient", "id": "inner"}
    else:
        value = resource_like(element.type_name, random_, depth + 1)
    return [value] if element.many else value


def resource_like(type_name: str, random_: random.Random, depth: int = 0) -> dict[str, Any]:
    """Some elements of a type, each of the right JSON type."""
    names = list(elements_of(type_name))
    chosen = random_.sample(names, k=min(len(names), random_.randint(1, 5) if depth < _DEPTH else 1))
    return {
        name: valid_element(elements_of(type_name)[name], random_, depth) for name in chosen if depth < _DEPTH
    }


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def spoilt(value: Any, random_: random.Random) -> Any:
    """The value with one place of it replaced by something wrong."""
    made = copy.deepcopy(value)
    path = random_.choice(list(places(made)))
    wrong = copy.deepcopy(random_.choice(WRONG))
    if not path:
        return wrong if random_.random() < 0.2 else made
    inner = made
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = wrong
    return made


def bodies(count: int, seed: int) -> Iterator[tuple[str, str, Any]]:
    """Method, URL and body, over every type and every place that takes a body."""
    random_ = random.Random(seed)  # noqa: S311 - the same bodies each time
    for number in range(count):
        row = list(RESOURCE_TYPES.values())[number % len(RESOURCE_TYPES)]
        resource = {"resourceType": row.name, **resource_like(row.name, random_)}
        body = spoilt(resource, random_) if random_.random() < 0.8 else resource
        yield random_.choice(list(_places_of(row.name, body, random_)))


def _places_of(name: str, body: Any, random_: random.Random) -> Iterator[tuple[str, str, Any]]:
    yield "POST", f"{name}/$validate", body
    yield (
        "POST",
        f"{name}/$validate",
        {"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": body}]},
    )
    if Interaction.CREATE in RESOURCE_TYPES[name].interactions:
        yield "POST", name, body
        yield "PUT", f"{name}/f1", {**body, "id": "f1"} if isinstance(body, dict) else body
        request = {"method": "POST", "url": name}
        entry = {"fullUrl": "urn:uuid:1", "resource": body, "request": request}
        bundle = {
            "resourceType": "Bundle",
            "type": random_.choice(["batch", "transaction"]),
            "entry": [entry],
        }
        yield "POST", "", bundle
        yield "POST", "", spoilt(bundle, random_)
    for operation in ("Observation/$lastn", "Patient/p/$everything", "$export", "Observation/o/$withdraw"):
        parameters = [{"name": random_.choice(["patient", "max", "reason", "_type"]), "valueString": body}]
        yield "POST", operation, {"resourceType": "Parameters", "parameter": parameters}


def send(client: Client, count: int, seed: int) -> tuple[Counter[int], list[Sent]]:
    """Send bodies; answers how many were answered how, and those that gave a 5xx."""
    statuses: Counter[int] = Counter()
    failed: list[Sent] = []
    for method, url, body in bodies(count, seed):
        answer = client.ask(method, url, body, Prefer="respond-async")
        codes = [answer.status]
        if url == "" and answer.status == 200:
            codes = [int(each["response"]["status"][:3]) for each in answer.json().get("entry", [])] or codes
        statuses.update(codes)
        if any(code >= 500 for code in codes):
            failed.append(Sent(method=method, url=url, body=body, answer=answer))
    return statuses, failed
