"""What a window of a case has, for the denominators beside every chart."""

from __future__ import annotations

from enum import StrEnum


class WindowState(StrEnum):
    """Of one window after an operation."""

    PAIRED = "paired"  # a change, valid in the face as a whole
    NOT_DUE = "not-due"  # the window has not closed
    MISSING_BEFORE = "missing-before"
    MISSING_AFTER = "missing-after"
    REJECTED = "rejected"  # photographs are there, none could be judged
    UNDECIDED = "undecided"  # a conflict waits for a person
    NOT_COMPARABLE = "not-comparable"  # two methods, wrong order, or a region that was not scored
    WITHDRAWN = "withdrawn"  # the result, or the case, was taken back
    NO_CONSENT = "no-consent"
