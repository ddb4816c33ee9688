"""Forms that are not ours, headers that keep pages what they are, and addresses without patients."""

from __future__ import annotations

import pytest

from reporting.fhir.http import Api
from tests.integration.reporting.web.browsing import PASSCODE, Browser


def test_a_form_without_its_token_does_nothing(clinician: Browser) -> None:
    clinician.get("/worklist")
    answer = clinician.ask("POST", "/ui/find", data={"number": "P-001"})
    assert answer.status_code == 403
    assert clinician.ask("POST", "/ui/logout", data={"form_token": "0" * 64}).status_code == 403
    assert clinician.get("/").status_code == 200, "still logged in"


def test_a_form_of_another_session_does_nothing(api: Api, clinician: Browser) -> None:
    other = Browser(api)
    other.log_in("quality")
    other.get("/worklist")
    answer = clinician.ask("POST", "/ui/find", data={"number": "P-001", "form_token": other.form_token})
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}],
)
def test_a_page_elsewhere_sends_no_form(clinician: Browser, headers: dict[str, str]) -> None:
    clinician.get("/worklist")
    assert clinician.send("/find", {"number": "P-001"}, headers=headers).status_code == 403


def test_a_login_cannot_be_sent_from_elsewhere(browser: Browser) -> None:
    browser.get("/login")
    fields = {"name": "clinician", "passcode": PASSCODE}
    assert browser.send("/login", fields, headers={"Origin": "https://evil.example"}).status_code == 403
    assert browser.ask("POST", "/ui/login", data=fields).status_code == 403, "without the form's token"


@pytest.mark.parametrize("path", ["/", "/login", "/nowhere", "/static/ui.css", "/worklist"])
def test_every_answer_has_the_headers(clinician: Browser, path: str) -> None:
    answer = clinician.get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    if "static" not in path:
        assert answer.headers["cache-control"] == "no-store"


def test_pages_hold_nothing_inline(clinician: Browser) -> None:
    for path in ("/", "/worklist", "/login", "/nowhere"):
        page = clinician.get(path).text
        assert " style=" not in page
        assert "<style" not in page
        assert " onclick=" not in page
        assert "<script>" not in page
        assert "http://" not in page.replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"number=" + b"x" * 70_000, "application/x-www-form-urlencoded", 413),
        (b'{"number": 1}', "application/json", 400),
        (b"&".join(b"a=1" for _ in range(200)), "application/x-www-form-urlencoded", 400),
        (b"number=a%00b", "application/x-www-form-urlencoded", 400),
        (b"\xff\xfe", "application/x-www-form-urlencoded", 400),
    ],
)
def test_what_is_no_form_is_refused(clinician: Browser, content: bytes, kind: str, status: int) -> None:
    answer = clinician.ask("POST", "/ui/find", content=content, headers={"Content-Type": kind})
    assert answer.status_code == status


def test_a_strange_filter_is_answered_in_words(clinician: Browser) -> None:
    assert clinician.get("/worklist?since=yesterday").status_code == 400
    assert "2026-05-31" in clinician.text
    assert clinician.get("/worklist?before=²&show=nothing").status_code == 200
    assert clinician.get("/worklist?before=99999999999999999999999").status_code == 200
    assert clinician.get("/worklist?sender=%00").status_code == 400
    assert clinician.get("/photographs/1%002").status_code == 400


def test_pages_speak_the_language_that_is_chosen(browser: Browser) -> None:
    assert '<html lang="en"' in browser.get("/login").text
    browser.ask("POST", "/ui/language", data={"language": "de", "next": "/login"})
    assert "Kennwort" in browser.text
    assert '<html lang="de"' in browser.get("/login").text
    browser.ask("POST", "/ui/language", data={"language": "xx", "next": "//evil.example"})
    assert browser.page.url.host == "semblance.hospital.example"


def test_times_are_of_the_readers_zone(clinician: Browser) -> None:
    assert "Europe/Berlin" in clinician.get("/").text
    for zone, said in (("America%2FNew_York", "America/New_York"), ("../../etc/passwd", "Europe/Berlin")):
        clinician.cookies.set("semblance_zone", zone, domain="semblance.hospital.example", path="/ui")
        assert f"Times in {said}" in " ".join(clinician.get("/").text.split())
