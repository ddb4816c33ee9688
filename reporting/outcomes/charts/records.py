"""What a chart is made from and what it is: frozen records, drawn and exported elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Days = NDArray[np.datetime64]
Texts = NDArray[np.object_]


class ChartKind(StrEnum):
    """Kinds of charts."""

    XMR = "xmr"
    RUN = "run"
    P = "p"
    FUNNEL = "funnel"
    CUSUM = "cusum"
    TIME = "time"  # XmR of the time to a result


@dataclass(frozen=True, kw_only=True)
class ChangeTable:
    """Valid changes of one region, one row each; every array is (n,)."""

    change_id: Texts  # UUIDs as text: the evidence
    operated_on: Days  # date of the procedure
    followed_on: Days  # date of the photograph after it
    site: Texts
    surgeon: Texts  # "" when unknown or not to be seen
    phenotype: Texts
    syndrome: NDArray[np.bool_]
    laterality: Texts
    age: Floats  # years at the procedure, NaN when unknown
    before: Floats  # score before, higher = more normal
    after: Floats
    poor: NDArray[np.bool_]  # not better by more than the smallest detectable change
    method: Texts  # name and version; scores of different ones are in different phases

    @property
    def change(self) -> Floats:
        """After less before."""
        return self.after - self.before

    def __len__(self) -> int:
        return len(self.change_id)

    def without_surgeons(self) -> ChangeTable:
        """The same changes, nobody's."""
        return replace(self, surgeon=np.full(len(self), "", object))

    def rows(self, chosen: NDArray[Any]) -> ChangeTable:
        """The rows of a mask or of indices."""
        return ChangeTable(**{name: getattr(self, name)[chosen] for name in self.__dataclass_fields__})


@dataclass(frozen=True, kw_only=True)
class PhotographTable:
    """Photographs that were judged or rejected; every array is (n,)."""

    sop_instance_uid: Texts  # the evidence
    acquired_on: Days
    site: Texts
    reason: Texts  # first reason of the rejection; "" when judged
    waited_s: Floats  # from receipt to result; NaN when there is none

    def __len__(self) -> int:
        return len(self.sop_instance_uid)

    def rows(self, chosen: NDArray[Any]) -> PhotographTable:
        """The rows of a mask or of indices."""
        return PhotographTable(**{name: getattr(self, name)[chosen] for name in self.__dataclass_fields__})


@dataclass(frozen=True, kw_only=True)
class Denominators:
    """Of whom a chart does not speak, and why."""

    eligible: int  # cases of the charted kind, place and time, due to have been followed
    paired: int
    missing_before: int
    missing_after: int
    rejected: Mapping[str, int]  # reason -> cases whose photographs were all rejected
    undecided: int  # a conflict waits for a person
    not_comparable: int  # photographs are there, but of two methods, or out of order, or not scored
    withdrawn: int
    no_consent: int

    @property
    def lines(self) -> tuple[tuple[str, int], ...]:
        """What is counted, in words, and how many."""
        return (
            ("eligible", self.eligible),
            ("paired", self.paired),
            ("no photograph before", self.missing_before),
            ("no photograph after", self.missing_after),
            *((f"rejected: {reason}", number) for reason, number in self.rejected.items()),
            ("waiting for a decision", self.undecided),
            ("not comparable", self.not_comparable),
            ("withdrawn", self.withdrawn),
            ("no consent", self.no_consent),
        )


@dataclass(frozen=True, kw_only=True)
class PhotographCounts:
    """Beside charts of photographs: of how many they speak, and of how many not."""

    known: int  # taken in the charted time and place
    judged: int
    rejected: Mapping[str, int]  # first reason -> photographs
    without_result: int  # not judged yet
    withdrawn: int  # of all these: the result was taken back
    no_consent: int  # of all these: the patient did not consent to outcomes

    @property
    def lines(self) -> tuple[tuple[str, int], ...]:
        """What is counted, in words, and how many."""
        return (
            ("photographs", self.known),
            ("judged", self.judged),
            *((f"rejected: {reason}", number) for reason, number in self.rejected.items()),
            ("no result yet", self.without_result),
            ("of these, withdrawn", self.withdrawn),
            ("of these, no consent", self.no_consent),
        )


@dataclass(frozen=True, kw_only=True)
class Phase:
    """From a day on, values are held against limits of their own."""

    begins_on: date
    method: str  # name and version in force
    reason: str  # why it begins
    author: str  # who began it; "semblance" for a change of method


@dataclass(frozen=True, kw_only=True)
class Point:
    """One mark."""

    label: str  # month, unit or ordinal number of the case
    x: float  # place on the horizontal axis
    value: float | None  # None where nothing was counted
    cases: int
    evidence: tuple[str, ...]  # ids of the changes or photographs
    lower: float | None = None  # None: no limit, as under 10 cases
    centre: float | None = None
    upper: float | None = None
    inner_lower: float | None = None  # of the 95 % of a funnel
    inner_upper: float | None = None
    signals: tuple[str, ...] = ()  # rules it breaks


@dataclass(frozen=True, kw_only=True)
class Track:
    """A row of points that belong on one axis."""

    name: str
    unit: str
    points: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True)
class ChartPhase:
    """A phase as a chart shows it."""

    start: int  # index of its first point in the first track
    label: str
    reason: str
    trial: bool  # limits of fewer than 12 points


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One chart."""

    kind: ChartKind
    title: str
    subject: str  # what it is of: procedure, region, window, place
    x_label: str
    tracks: tuple[Track, ...]
    phases: tuple[ChartPhase, ...] = ()
    denominators: Denominators | PhotographCounts | None = None
    made_from: Mapping[str, str] = field(default_factory=dict)  # versions and digests that reproduce it
    notes: tuple[str, ...] = ()

    @property
    def signals(self) -> tuple[tuple[str, Point], ...]:
        """Points that break a rule, with their track's name."""
        return tuple((track.name, point) for track in self.tracks for point in track.points if point.signals)
