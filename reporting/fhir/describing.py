"""Reports are saved with what they found in words, made of their results as they are."""

from __future__ import annotations

from collections.abc import Sequence

from reporting.fhir.builders.conclusion import described
from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.elements import Element
from reporting.fhir.render import loads
from service.database.pool import Connection


def with_words(connection: Connection, report: Element, new: Sequence[Element] = ()) -> Element:
    """A DiagnosticReport with its conclusion, narrative and names of results.

    Args:
        connection: In the transaction that saves it.
        report: As it is to be saved.
        new: Observations that are saved with it, or were just now; the others are read.
    """
    given = {f"Observation/{each['id']}": each for each in new if each["resourceType"] == "Observation"}
    names = [str(result["reference"]) for result in report.get("result", [])]
    missing = [("Observation", name.partition("/")[2]) for name in names if name not in given]
    stored = [loads(each.body) for each in fhir_resources.read_many(connection, missing)]
    return described(report, [*(given[name] for name in names if name in given), *stored])
