"""Which results go to which destination: the routes of ``Settings.destinations``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from service.peers import Destination, Route
from service.records import AppraisalStatus


@dataclass(frozen=True, kw_only=True)
class Routed:
    """What a route looks at: one result object of one photograph."""

    calling_ae_title: str  # who sent the photograph
    modality: str  # (0008,0060) of the photograph; "" when it has none
    body_part_examined: str  # (0018,0015)
    study_description: str  # (0008,1030)
    status: AppraisalStatus
    rating: float | None  # 1..7; None for a rejected photograph or an uncalibrated method
    score: float | None  # s(D); None for a rejected photograph
    result: str  # kind of the object, as "secondary-capture"


def destinations_of(routed: Routed, destinations: Iterable[Destination]) -> list[Destination]:
    """The destinations that get a result, in their order."""
    return [
        each
        for each in destinations
        if not each.routes or any(_takes(route, routed) for route in each.routes)
    ]


def _takes(route: Route, routed: Routed) -> bool:
    """Whether a result meets every condition of a route."""
    return (
        _among(routed.calling_ae_title, route.calling_ae_titles)
        and _among(routed.modality, route.modalities)
        and _among(routed.body_part_examined, route.body_parts)
        and _among(routed.status.value, route.statuses)
        and _among(routed.result, route.results)
        and _fits(routed.study_description, route.study_description)
        and _within(routed.rating, route.rating_from, route.rating_to)
        and _within(routed.score, route.score_from, route.score_to)
    )


def _among(value: str, wanted: tuple[str, ...]) -> bool:
    return not wanted or value.strip().casefold() in {each.strip().casefold() for each in wanted}


def _fits(value: str, pattern: str) -> bool:
    return not pattern or fnmatchcase(value.strip().casefold(), pattern.casefold())


def _within(value: float | None, least: float | None, greatest: float | None) -> bool:
    if least is None and greatest is None:
        return True
    return value is not None and (least is None or value >= least) and (greatest is None or value <= greatest)
