"""Options of an interaction: each known, given once, and a number where it is one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from reporting.fhir.outcome import FhirProblemError, Issue, IssueType

_WHOLE = re.compile(r"[0-9]+", re.ASCII)
_MOST_DIGITS = 9  # fits PostgreSQL's integer; larger counts mean the same

# What every interaction takes: about the form of the answer.
FORM_OPTIONS = frozenset({"_format", "_pretty"})


def whole_number(text: str, name: str, *, least: int = 0) -> int:
    """Value of an option that is a whole number; a huge one is 999,999,999.

    Raises:
        FhirProblemError: 400: it is none, or less than ``least``.
    """
    if _WHOLE.fullmatch(text):
        digits = text.lstrip("0") or "0"
        number = int(digits) if len(digits) <= _MOST_DIGITS else 10**_MOST_DIGITS - 1
        if number >= least:
            return number
    wanted = "is a whole number" + (f" from {least}" if least else "")
    raise FhirProblemError(400, IssueType.VALUE, f"{name} {wanted}", f"http.{name}")


def once_each(pairs: Sequence[tuple[str, str]], names: Iterable[str]) -> None:
    """Check that options are not given twice with different values.

    Raises:
        FhirProblemError: 400: they contradict each other.
    """
    for name in names:
        if len({value for key, value in pairs if key == name}) > 1:
            raise FhirProblemError(
                400, IssueType.INVALID, f"{name} is given twice with different values", f"http.{name}"
            )


def unknown_options(
    pairs: Sequence[tuple[str, str]], known: Iterable[str], *, strict: bool
) -> tuple[Issue, ...]:
    """What is not served of the options given, each said once.

    Raises:
        FhirProblemError: 400: there are some and ``strict``.
    """
    names = frozenset(known)
    issues = tuple(
        Issue(
            code=IssueType.NOT_SUPPORTED,
            diagnostics=f"{name} is not served here; known: {', '.join(sorted(names))}",
            expression=f"http.{name}",
            severity="error" if strict else "warning",
        )
        for name in dict.fromkeys(key for key, _ in pairs)
        if name not in names
    )
    if strict and issues:
        raise FhirProblemError(400, issues=issues)
    return issues
