"""Invariants of R4 datatypes, and of elements made of them, that the models leave out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from reporting.fhir.outcome import Issue, IssueType
from reporting.fhir.valid.narrative import fault_of

_COMPARATORS = ("<", "<=", ">=", ">")
_SIMPLE = {  # elements of type SimpleQuantity, which has no comparator (sqty-1)
    "Range": ("low", "high"),
    "ObservationReferenceRange": ("low", "high"),
    "SampledData": ("origin",),
}


def datatype_issues(model: Any, path: str) -> Iterator[Issue]:
    """Yield what an element breaks of its type's invariants.

    Args:
        model: The element, as its valid model.
        path: FHIRPath of it.
    """
    name = type(model).get_resource_type()
    rule = _RULES.get(name)
    if rule is not None:
        yield from rule(model, path)
    for element in _SIMPLE.get(name, ()):
        quantity = getattr(model, element, None)
        if quantity is not None and quantity.comparator is not None:
            yield _broken("sqty-1: this quantity has no comparator", f"{path}.{element}.comparator")


def _broken(diagnostics: str, path: str) -> Issue:
    return Issue(code=IssueType.INVARIANT, diagnostics=diagnostics, expression=path)


def _quantity(model: Any, path: str) -> Iterator[Issue]:
    if model.code is not None and model.system is None:
        yield _broken("qty-3: a unit that has a code has its system", path)
    if model.comparator is not None and model.comparator not in _COMPARATORS:
        text = f"{model.comparator!r} is not one of {', '.join(_COMPARATORS)}"
        yield Issue(code=IssueType.VALUE, diagnostics=text, expression=f"{path}.comparator")


def _range(model: Any, path: str) -> Iterator[Issue]:
    low, high = model.low, model.high
    if (
        low is not None
        and high is not None
        and None not in (low.value, high.value)
        and low.value > high.value
    ):
        yield _broken("rng-2: low is not above high", path)


def _reference_range(model: Any, path: str) -> Iterator[Issue]:
    if model.low is None and model.high is None and model.text is None:
        yield _broken("obs-3: a reference range has low, high or text", path)


def _contact_point(model: Any, path: str) -> Iterator[Issue]:
    if model.value is not None and model.system is None:
        yield _broken("cpt-2: a contact that has a value has its system", path)


def _attachment(model: Any, path: str) -> Iterator[Issue]:
    if model.data is not None and model.contentType is None:
        yield _broken("att-1: an attachment that has data has its contentType", path)


def _extension(model: Any, path: str) -> Iterator[Issue]:
    values = [
        name for name in type(model).model_fields if name.startswith("value") and not name.endswith("__ext")
    ]
    has_value = any(getattr(model, name) is not None for name in values)
    if has_value == bool(model.extension) and not _has_primitive_extension(model):
        yield _broken("ext-1: an extension has a value or extensions, and not both", path)


def _has_primitive_extension(model: Any) -> bool:
    return any(
        getattr(model, name) is not None
        for name in type(model).model_fields
        if name.startswith("value") and name.endswith("__ext")
    )


def _reference(model: Any, path: str) -> Iterator[Issue]:
    kind, text = model.type, model.reference
    steps = (text or "").partition("/_history/")[0].split("/")
    named = steps[-2] if len(steps) >= 2 and not (text or "").startswith(("urn:", "#")) else ""
    if kind is not None and named[:1].isupper() and kind != named:
        yield _broken(f"the reference is to a {named}, and its type is {kind}", f"{path}.type")


def _narrative(model: Any, path: str) -> Iterator[Issue]:
    fault = fault_of(str(model.div)) if model.div is not None else ""
    if fault:
        yield _broken(f"txt-1: {fault}", f"{path}.div")


_RULES: Mapping[str, Callable[[Any, str], Iterator[Issue]]] = {
    **dict.fromkeys(("Quantity", "Age", "Count", "Distance", "Duration"), _quantity),
    "Range": _range,
    "ObservationReferenceRange": _reference_range,
    "ContactPoint": _contact_point,
    "Attachment": _attachment,
    "Extension": _extension,
    "Reference": _reference,
    "Narrative": _narrative,
}
