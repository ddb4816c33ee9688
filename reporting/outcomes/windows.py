"""The windows in which photographs are looked for, by interval after the operation and by age."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from reporting.outcomes.records import Anchor, ProcedureCase, Role, Window

_MONTH = 365.25 / 12


def _after(name: str, months: int, slack_months: float) -> Window:
    return Window(
        name=name,
        role=Role.POST,
        anchor=Anchor.PROCEDURE,
        target=months * _MONTH,
        earliest=(months - slack_months) * _MONTH,
        latest=(months + slack_months) * _MONTH,
    )


def _at_age(years: int) -> Window:
    return Window(
        name=f"{years} years",
        role=Role.POST,
        anchor=Anchor.BIRTH,
        target=float(years),
        earliest=years - 1.0,
        latest=years + 1.0,
    )


# CRANE and ICHOM look at 5 years of age and later; audits of single operations at intervals after them.
DEFAULT_WINDOWS: tuple[Window, ...] = (
    Window(name="before", role=Role.PRE, anchor=Anchor.PROCEDURE, target=0.0, earliest=-90.0, latest=0.0),
    _after("6 months", 6, 3),
    _after("12 months", 12, 3),
    _after("24 months", 24, 6),
    _at_age(5),
    _at_age(10),
    _at_age(15),
    _at_age(18),
)


def windows_for(code: str, windows: Sequence[Window] = DEFAULT_WINDOWS) -> tuple[Window, ...]:
    """Windows of a procedure code: its own where there are any, else the general ones."""
    own = tuple(window for window in windows if window.code == code)
    return own if own else tuple(window for window in windows if not window.code)


def place_in(window: Window, case: ProcedureCase, taken_on: date) -> float | None:
    """Where a day lies on a window's scale; None when it lies outside, or the birth date is not known.

    A photograph of the day of the operation counts as taken before it. One of a window by age counts only
    when it was taken after the operation.
    """
    days = (taken_on - case.performed_on).days
    if (days > 0) != (window.role is Role.POST):
        return None
    if window.anchor is Anchor.PROCEDURE:
        place = float(days)
    elif case.born_on is None:
        return None
    else:
        place = (taken_on - case.born_on).days / 365.25
    return place if window.earliest <= place <= window.latest else None


def is_due(window: Window, case: ProcedureCase, today: date) -> bool:
    """Whether a window has closed: a photograph that is not there by now is missing."""
    if window.role is Role.PRE:
        return True
    if window.anchor is Anchor.PROCEDURE:
        return (today - case.performed_on).days > window.latest
    if case.born_on is None:
        return False
    if (case.performed_on - case.born_on).days / 365.25 > window.latest:
        return False  # operated on after that age
    return (today - case.born_on).days / 365.25 > window.latest
