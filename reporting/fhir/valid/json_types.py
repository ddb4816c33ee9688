"""Whether the JSON of a resource has the types R4 gives its elements (R4 json.html), before a model sees it.

The models turn ``"yes"`` into true and ``"2"`` into 2, and cannot bear null where an element is. Clients of
typed languages can bear neither, so both are refused here.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from functools import cache
from typing import Any

from fhir.resources.R4B import get_fhir_model_class

from reporting.fhir.outcome import Issue, IssueType


class Kind(StrEnum):
    """What an element is in JSON; the value says so to people."""

    BOOLEAN = "true or false, without quotation marks"
    INTEGER = "a whole number, without quotation marks"
    DECIMAL = "a number, without quotation marks"
    TEXT = "a text in quotation marks"
    OBJECT = "an object"


@dataclass(frozen=True, kw_only=True)
class Element:
    """An element of a type."""

    kind: Kind
    many: bool  # an array
    type_name: str  # of an object; "" for one that says its resourceType
    primitive: bool  # may be null in an array, where its extension has a place


@cache
def elements_of(type_name: str) -> Mapping[str, Element]:
    """Elements of a type, a resource or a datatype, by their names in JSON."""
    made: dict[str, Element] = {}
    for name, info in get_fhir_model_class(type_name).model_fields.items():
        if name != "fhir_comments":  # of DSTU2
            made[info.alias or name] = _element(info.annotation)
    return made


def _element(annotation: Any) -> Element:
    inner = _required(annotation)
    many = typing.get_origin(inner) is list
    if many:
        inner = _required(typing.get_args(inner)[0])
    if hasattr(inner, "get_model_klass"):
        name = inner.__name__.removesuffix("Type")
        type_name = (
            "" if name in ("Resource", "DomainResource") else inner.get_model_klass().get_resource_type()
        )
        primitive = name == "FHIRPrimitiveExtension"
        return Element(kind=Kind.OBJECT, many=many, type_name=type_name, primitive=primitive)
    plain = _bare(inner)
    kinds = {bool: Kind.BOOLEAN, int: Kind.INTEGER, Decimal: Kind.DECIMAL}
    return Element(kind=kinds.get(plain, Kind.TEXT), many=many, type_name="", primitive=True)


def _required(annotation: Any) -> Any:
    """An annotation without None."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return next(each for each in typing.get_args(annotation) if each is not type(None))
    return annotation


def _bare(annotation: Any) -> Any:
    """The Python type of a primitive."""
    if typing.get_origin(annotation) is typing.Annotated:
        return typing.get_args(annotation)[0]
    return annotation


def type_issues(resource: Mapping[str, Any], path: str) -> Iterator[Issue]:
    """Yield every element of a wrong type or name.

    Args:
        resource: A resource as parsed JSON, numbers with a fraction as Decimal.
        path: FHIRPath of it.
    """
    name = resource.get("resourceType")
    if not isinstance(name, str) or not _is_resource(name):
        yield _issue("resourceType is the name of an R4 type", path)
        return
    rest = {key: value for key, value in resource.items() if key != "resourceType"}
    yield from _object(rest, name, path)


@cache
def _is_resource(name: str) -> bool:
    try:
        model = get_fhir_model_class(name)
    except (KeyError, ValueError):
        return False
    return bool(model.get_resource_type() == name and "implicitRules" in model.model_fields)


def _object(value: Mapping[str, Any], type_name: str, path: str) -> Iterator[Issue]:
    elements = elements_of(type_name)
    for key, inner in value.items():
        element, here = elements.get(key), f"{path}.{key}"
        if element is None:
            yield _issue(f"{type_name} has no element {key}", here)
        elif not element.many:
            yield from _one(inner, element, here)
        elif not isinstance(inner, list):
            yield _issue("is an array", here)
        else:
            for place, each in enumerate(inner):
                if each is not None or not element.primitive:
                    yield from _one(each, element, f"{here}[{place}]")
                elif not _has_other_half(value, key, place):
                    yield _issue("null stands in for what has only an extension, and this has none", here)


def _has_other_half(value: Mapping[str, Any], key: str, place: int) -> bool:
    """Whether a null in an array has an extension, or a value, at its place in the other array."""
    other = value.get(key.removeprefix("_") if key.startswith("_") else f"_{key}")
    return isinstance(other, list) and place < len(other) and other[place] is not None


def _one(value: Any, element: Element, path: str) -> Iterator[Issue]:
    if not _is_of(value, element.kind):
        yield _issue(f"is {element.kind.value}", path)
    elif element.kind is Kind.OBJECT and not element.type_name:
        yield from type_issues(value, path)
    elif element.kind is Kind.OBJECT:
        yield from _object(value, element.type_name, path)


def _is_of(value: Any, kind: Kind) -> bool:
    if isinstance(value, bool):
        return kind is Kind.BOOLEAN
    wanted: dict[Kind, type | tuple[type, ...]] = {
        Kind.BOOLEAN: bool,
        Kind.INTEGER: int,
        Kind.DECIMAL: (int, float, Decimal),
        Kind.TEXT: str,
        Kind.OBJECT: dict,
    }
    return isinstance(value, wanted[kind])


def _issue(diagnostics: str, path: str) -> Issue:
    return Issue(code=IssueType.STRUCTURE, diagnostics=diagnostics, expression=path)
