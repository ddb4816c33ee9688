from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from reporting.routing import Routed, destinations_of
from service.peers import Destination, Route
from service.records import AppraisalStatus

ROUTED = Routed(
    calling_ae_title="CAMERA1",
    modality="XC",
    body_part_examined="FACE",
    study_description="Follow-up cleft lip",
    status=AppraisalStatus.APPRAISED,
    rating=3.0,
    score=1.5,
    result="secondary-capture",
)
REJECTED = replace(ROUTED, status=AppraisalStatus.REJECTED, rating=None, score=None)


def goes(routed: Routed, *routes: Route) -> bool:
    pacs = Destination(name="pacs", ae_title="PACS", host="pacs", port=104, routes=routes)
    return destinations_of(routed, (pacs,)) == [pacs]


def test_without_routes_everything_goes() -> None:
    assert goes(ROUTED)
    assert goes(REJECTED)


@pytest.mark.parametrize(
    ("route", "taken"),
    [
        (Route(), True),
        (Route(calling_ae_titles=("CAMERA1", "CAMERA2")), True),
        (Route(calling_ae_titles=("CAMERA2",)), False),
        (Route(modalities=("xc",)), True),
        (Route(modalities=("OT",)), False),
        (Route(body_parts=("HAND", "FACE")), True),
        (Route(body_parts=("HAND",)), False),
        (Route(study_description="*CLEFT*"), True),
        (Route(study_description="cleft"), False),
        (Route(statuses=("appraised",)), True),
        (Route(statuses=("rejected",)), False),
        (Route(results=("secondary-capture",)), True),
        (Route(results=("structured-report", "parametric-map")), False),
        (Route(rating_to=3.0), True),
        (Route(rating_to=2.9), False),
        (Route(rating_from=3.0, rating_to=5.0), True),
        (Route(score_from=1.6), False),
        (Route(score_to=1.5), True),
        (Route(modalities=("XC",), body_parts=("HAND",)), False),
    ],
)
def test_every_condition_must_be_met(route: Route, taken: bool) -> None:
    assert goes(ROUTED, route) is taken


def test_any_route_is_enough() -> None:
    assert goes(ROUTED, Route(modalities=("OT",)), Route(body_parts=("FACE",)))


def test_a_rejected_photograph_is_in_no_band() -> None:
    assert not goes(REJECTED, Route(rating_to=7.0))
    assert not goes(REJECTED, Route(score_from=-100.0))
    assert goes(REJECTED, Route(statuses=("rejected",)))


def test_a_result_goes_to_each_destination_that_takes_it_in_their_order() -> None:
    rows = [
        Destination(name=name, ae_title=name, host="h", port=104, routes=routes)
        for name, routes in (("A", ()), ("B", (Route(modalities=("OT",)),)), ("C", (Route(),)))
    ]
    assert [each.name for each in destinations_of(ROUTED, rows)] == ["A", "C"]


def test_a_lossy_transfer_syntax_is_refused() -> None:
    with pytest.raises(ValidationError, match="without loss"):
        Destination(name="a", ae_title="A", host="h", port=104, transfer_syntaxes=("1.2.840.10008.1.2.4.50",))
