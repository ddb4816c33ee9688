"""Whether a resource is valid R4, checked when it is written.

``fhir.resources`` checks structure, cardinality, types and choices; what it leaves out is checked here:
empty values, codes of required bindings, reference targets, and the invariants of the types we write.
Its R4B models have the element paths of R4 4.0.1 for these types.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC
from functools import cache
from typing import Any

from fhir.resources.R4B import get_fhir_model_class
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from reporting.fhir.extract import interval
from reporting.fhir.outcome import FhirProblemError, Issue, IssueType
from reporting.fhir.search_table import RESOURCE_TYPES
from reporting.fhir.valid.datatypes import datatype_issues
from reporting.fhir.valid.json_types import type_issues
from service.errors import FhirError

ID = re.compile(r"[A-Za-z0-9\-.]{1,64}\Z")

# Required bindings whose list in the models ends in "+" (R4 valuesets).
_WHOLE_BINDINGS = {
    "DetectedIssue.status": (
        "registered", "preliminary", "final", "amended", "corrected", "cancelled", "entered-in-error",
        "unknown",
    ),
    "Observation.status": (
        "registered", "preliminary", "final", "amended", "corrected", "cancelled", "entered-in-error",
        "unknown",
    ),
    "DiagnosticReport.status": (
        "registered", "partial", "preliminary", "final", "amended", "corrected", "appended", "cancelled",
        "entered-in-error", "unknown",
    ),
}  # fmt: skip


# Targets of references in R4 4.0.1, where those of R4B are wider.
_R4_TARGETS = {
    "Observation.subject": ("Patient", "Group", "Device", "Location"),
    "DiagnosticReport.subject": ("Patient", "Group", "Device", "Location"),
}


def check(resource: Any) -> None:
    """Check a resource of a type we serve.

    Args:
        resource: As parsed JSON, numbers as Decimal.

    Raises:
        FhirProblemError: 400 when it is no resource of ours, 422 with every issue when it is invalid.
    """
    if not isinstance(resource, dict) or not isinstance(resource.get("resourceType"), str):
        raise FhirProblemError(400, IssueType.STRUCTURE, "the body is not a FHIR resource", "http.body")
    resource_type = resource["resourceType"]
    if resource_type not in RESOURCE_TYPES:
        raise FhirProblemError(
            400, IssueType.NOT_SUPPORTED, f"{resource_type} is not served here", f"{resource_type}"
        )
    issues = tuple(issues_of(resource))
    if issues:
        raise FhirProblemError(422, issues=issues)


def issues_of(resource: dict[str, Any]) -> Iterator[Issue]:
    """Yield everything wrong with a resource."""
    resource_type = resource["resourceType"]
    empty = list(_empty(resource, resource_type))
    yield from empty
    known = {issue.expression for issue in empty}  # under a better name than that of a type
    wrong = [issue for issue in type_issues(resource, resource_type) if issue.expression not in known]
    yield from wrong
    if empty or wrong:  # the models, and the rules below, ask for what is of the right type
        return
    try:
        model = get_fhir_model_class(resource_type).model_validate(resource)
    except ValidationError as exc:
        yield from _model_issues(resource_type, exc)
        return
    yield from _bindings(model, resource_type, resource_type)
    for rule in (*_INVARIANTS.get(resource_type, ()), _period_issues, _local_references):
        yield from rule(resource)
    if "id" in resource and not ID.match(str(resource["id"])):
        yield Issue(code=IssueType.VALUE, diagnostics="malformed id", expression=f"{resource_type}.id")


def _model_issues(resource_type: str, error: ValidationError) -> Iterator[Issue]:
    for fault in error.errors(include_url=False, include_context=False):
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in fault["loc"])
        kind = fault["type"]
        code = IssueType.REQUIRED if "missing" in kind else IssueType.STRUCTURE
        yield Issue(code=code, diagnostics=fault["msg"], expression=resource_type + path)


def _empty(value: Any, path: str) -> Iterator[Issue]:
    """Yield strings, arrays and objects that are empty (R4 json.html: none may be)."""
    if value is None or value in ("", [], {}) or (isinstance(value, str) and not value.strip()):
        yield Issue(code=IssueType.VALUE, diagnostics="an element may not be empty", expression=path)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _empty(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            if inner is not None:  # null stands in for a primitive that has only an extension
                yield from _empty(inner, f"{path}[{place}]")


@cache
def _checked_fields(model: str) -> tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...]:
    """(attribute, element, codes of its required binding, reference targets) of a model's elements."""
    made = []
    for name, info in get_fhir_model_class(model).model_fields.items():
        extra = _metadata(info)
        if extra.get("element_property"):
            codes = tuple(extra.get("enum_values", ()))
            made.append((name, info.alias or name, codes, tuple(extra.get("enum_reference_types", ()))))
    return tuple(made)


def _metadata(info: FieldInfo) -> Mapping[str, Any]:
    extra = info.json_schema_extra
    return extra if isinstance(extra, dict) else {}


def _bindings(model: Any, path: str, type_path: str) -> Iterator[Issue]:
    """Yield codes outside required bindings and references to types that are not allowed."""
    for attribute, element, codes, targets in _checked_fields(type(model).get_resource_type()):
        value = getattr(model, attribute, None)
        if value is None:
            continue
        many = isinstance(value, list)
        for place, inner in enumerate(value if many else [value]):
            here = f"{path}.{element}[{place}]" if many else f"{path}.{element}"
            codes_here = _WHOLE_BINDINGS.get(f"{type_path}.{element}", codes)
            if codes_here and isinstance(inner, str) and inner not in codes_here:
                yield Issue(
                    code=IssueType.VALUE,
                    diagnostics=f"{inner!r} is not one of {', '.join(codes_here)}",
                    expression=here,
                )
            elif hasattr(type(inner), "model_fields"):
                targets_here = _R4_TARGETS.get(f"{type_path}.{element}", targets)
                yield from _reference_issues(inner, targets_here, here)
                yield from datatype_issues(inner, here)
                yield from _bindings(inner, here, f"{type_path}.{element}")


def _reference_issues(model: Any, targets: tuple[str, ...], path: str) -> Iterator[Issue]:
    reference = getattr(model, "reference", None)
    if not targets or "Resource" in targets or not isinstance(reference, str):
        return
    if reference.startswith(("#", "urn:")):
        return
    steps = reference.split("/")
    known_type = (
        steps[-4] if len(steps) >= 4 and steps[-2] == "_history" else (steps[-2] if len(steps) >= 2 else "")
    )
    if known_type not in targets:
        yield Issue(
            code=IssueType.VALUE,
            diagnostics=f"refers to {known_type or 'no type'}; allowed: {', '.join(targets)}",
            expression=f"{path}.reference",
        )


# --- invariants of the standard (R4), by type


def _observation_invariants(resource: Mapping[str, Any]) -> Iterator[Issue]:
    values = [key for key in resource if key.startswith("value")]
    if values and "dataAbsentReason" in resource:
        yield Issue(
            code=IssueType.INVARIANT,
            diagnostics="obs-6: dataAbsentReason is only for an Observation without a value",
            expression="Observation.dataAbsentReason",
        )
    codes = {(c.get("system"), c.get("code")) for c in resource["code"].get("coding", [])}
    for place, component in enumerate(resource.get("component", [])):
        inner = {(c.get("system"), c.get("code")) for c in component["code"].get("coding", [])}
        if values and codes & inner:
            yield Issue(
                code=IssueType.INVARIANT,
                diagnostics="obs-7: a component with the Observation's code stands in for its value",
                expression=f"Observation.component[{place}].code",
            )


def _patient_invariants(resource: Mapping[str, Any]) -> Iterator[Issue]:
    for place, contact in enumerate(resource.get("contact", [])):
        if not {"name", "telecom", "address", "organization"} & set(contact):
            yield Issue(
                code=IssueType.INVARIANT,
                diagnostics="pat-1: a contact has a name, telecom, address or organization",
                expression=f"Patient.contact[{place}]",
            )


def _elements(value: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every element that has elements, with its path."""
    if isinstance(value, dict):
        yield path, value
        for key, inner in value.items():
            yield from _elements(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _elements(inner, f"{path}[{place}]")


def _period_issues(resource: Mapping[str, Any]) -> Iterator[Issue]:
    for path, element in _elements(resource, resource["resourceType"]):
        start, end = element.get("start"), element.get("end")
        if not isinstance(start, str) or not isinstance(end, str):
            continue
        try:
            ends_first = interval(start, UTC)[0] >= interval(end, UTC)[1]
        except FhirError:
            continue  # no dates, or ones that are refused where they are looked for
        if ends_first:
            yield Issue(
                code=IssueType.INVARIANT,
                diagnostics="per-1: a period starts before it ends",
                expression=path,
            )


def _local_references(resource: Mapping[str, Any]) -> Iterator[Issue]:
    contained = {f"#{inner.get('id')}" for inner in resource.get("contained", [])}
    for path, element in _elements(resource, resource["resourceType"]):
        reference = element.get("reference")
        if isinstance(reference, str) and reference.startswith("#") and reference not in {"#", *contained}:
            yield Issue(
                code=IssueType.INVARIANT,
                diagnostics="ref-1: no contained resource has this id",
                expression=f"{path}.reference",
            )


_INVARIANTS: Mapping[str, tuple[Callable[[Mapping[str, Any]], Iterator[Issue]], ...]] = {
    "Observation": (_observation_invariants,),
    "Patient": (_patient_invariants,),
}


@cache
def summary_elements(resource_type: str) -> frozenset[str]:
    """Elements of ``_summary=true``: those the standard marks, and the mandatory ones."""
    names = {"resourceType", "id", "meta", "implicitRules"}
    for name, info in get_fhir_model_class(resource_type).model_fields.items():
        extra = _metadata(info)
        if extra.get("summary_element_property") or extra.get("element_required"):
            names.add(info.alias or name)
    return frozenset(names)


@cache
def mandatory_elements(resource_type: str) -> frozenset[str]:
    """Elements that ``_elements`` cannot leave out."""
    names = {"resourceType", "id", "meta"}
    for name, info in get_fhir_model_class(resource_type).model_fields.items():
        if _metadata(info).get("element_required") or info.is_required():
            names.add(info.alias or name)
    return frozenset(names)


@cache
def choice_elements(resource_type: str) -> Mapping[str, tuple[str, ...]]:
    """Names of a choice of types without the type, as ``value``, and the elements each stands for."""
    made: dict[str, tuple[str, ...]] = {}
    for name, info in get_fhir_model_class(resource_type).model_fields.items():
        stem = _metadata(info).get("one_of_many")
        if stem:
            made[stem] = (*made.get(stem, ()), info.alias or name)
    return made


@cache
def known_elements(resource_type: str) -> frozenset[str]:
    """Names of a type's elements at the top level."""
    fields = get_fhir_model_class(resource_type).model_fields
    return frozenset(
        info.alias or name for name, info in fields.items() if _metadata(info).get("element_property")
    )
