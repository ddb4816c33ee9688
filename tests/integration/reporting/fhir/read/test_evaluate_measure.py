"""Measure/facial-change/$evaluate-measure, asked as a client does."""

from __future__ import annotations

import pytest

from tests.integration.reporting.fhir.conftest import Client

_ASKED = "Measure/facial-change/$evaluate-measure?code=80872004&periodStart=2023-01-01&periodEnd=2025-12-31"


def test_a_report_of_nothing_counts_nobody(client: Client) -> None:
    answer = client.get(_ASKED)
    assert answer.status == 200, answer.content
    report = answer.json()
    assert report["resourceType"] == "MeasureReport"
    assert report["period"] == {"start": "2023-01-01", "end": "2025-12-31"}
    assert [each["count"] for each in report["group"][0]["population"]] == [0, 0, 0]
    assert "measureScore" not in report["group"][0]


def test_the_measure_says_what_is_counted(client: Client) -> None:
    measure = client.get("Measure/facial-change").json()
    report = client.get(_ASKED).json()
    assert report["measure"] == f"{measure['url']}|{measure['version']}"


def test_parameters_may_come_in_the_body(client: Client) -> None:
    given = {"code": "80872004", "periodStart": "2023-01-01", "periodEnd": "2023-12-31"}
    body = {
        "resourceType": "Parameters",
        "parameter": [{"name": name, "valueString": value} for name, value in given.items()],
    }
    answer = client.ask(
        "POST", "Measure/facial-change/$evaluate-measure", body, content_type="application/fhir+json"
    )
    assert answer.status == 200, answer.content


@pytest.mark.parametrize(
    ("url", "where"),
    [
        (_ASKED.replace("code=80872004&", ""), "http.code"),
        (_ASKED.replace("2023-01-01", "2023"), "http.periodStart"),
        (_ASKED.replace("2025-12-31", "2020-12-31"), "http.periodStart"),
        (f"{_ASKED}&region=ear", "http.region"),
        (f"{_ASKED}&subject=Patient/1", "http.reportType"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(client: Client, url: str, where: str) -> None:
    answer = client.get(url)
    assert answer.status == 400
    assert answer.json()["issue"][0]["expression"] == [where]
