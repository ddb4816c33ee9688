"""What an examination finds: one line each, with advice where something is not well."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from service.errors import SemblanceError


class State(StrEnum):
    """How something is."""

    OK = "ok"
    WARN = "warn"  # works, and somebody should look at it
    FAIL = "fail"  # does not work


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    state: State
    text: str  # what was found
    advice: str = ""  # what to do about it; "" when nothing is to be done


def ok(subject: str, text: str) -> Finding:
    """All is well."""
    return Finding(subject=subject, state=State.OK, text=text)


def warn(subject: str, text: str, advice: str) -> Finding:
    """It works, and somebody should look at it."""
    return Finding(subject=subject, state=State.WARN, text=text, advice=advice)


def fail(subject: str, text: str, advice: str) -> Finding:
    """It does not work."""
    return Finding(subject=subject, state=State.FAIL, text=text, advice=advice)


@dataclass(frozen=True, kw_only=True)
class Examination:
    """Something to look at; what it raises is a finding, too."""

    subject: str
    look: Callable[[], Iterator[Finding]]
    advice: str  # where it raises

    def findings(self) -> list[Finding]:
        """What is found."""
        found: list[Finding] = []
        try:
            found.extend(self.look())
        except (SemblanceError, OSError) as exc:
            found.append(fail(self.subject, " ".join(str(exc).split()), self.advice))
        return found
