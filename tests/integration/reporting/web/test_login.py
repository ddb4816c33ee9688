"""Who comes in, and who does not."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from reporting.fhir.http import Api
from reporting.web.database import users
from reporting.web.login.passcode import MOST_OF_ADDRESS, MOST_OF_NAME
from reporting.web.people import ALLOWED, Need, Role
from service.audit.trail import seal_pending
from service.database import audit_messages, ledger
from service.database.pool import Connection, transaction
from service.records import LedgerEntry, LedgerEvent
from tests.audit import faults
from tests.integration.reporting.web.browsing import PASSCODE, Browser


def lines(api: Api) -> list[LedgerEntry]:
    with transaction(api.pool) as connection:
        return ledger.latest(connection, 50)


def audit_events(connection: Connection) -> list[str]:
    rows = connection.execute(
        "SELECT body FROM fhir_resource WHERE type = 'AuditEvent' ORDER BY resource_id DESC"
    )
    return [row["body"] for row in rows]


def test_nobody_sees_a_page_before_the_login(browser: Browser) -> None:
    for path in ("/", "/worklist", "/photographs/1.2.3", "/photographs/1.2.3/pictures/photograph"):
        answer = browser.get(path, follow=False)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/ui/login")
    assert browser.get("/live", follow=False).status_code == 401
    answer = browser.ask("POST", "/ui/photographs/1.2.3/withdraw", data={"reason": "x"}, follow=False)
    assert answer.status_code == 303


def test_a_user_logs_in_looks_and_logs_out(api: Api, browser: Browser) -> None:
    browser.get("/worklist?show=dead")
    answer = browser.send(
        "/login", {"name": "clinician", "passcode": PASSCODE, "next": "/worklist?show=dead"}
    )
    assert (answer.status_code, answer.url.path, answer.url.query) == (200, "/ui/worklist", b"show=dead")
    assert "Clinician of the test" in browser.text
    assert browser.send("/logout", {}).url.path == "/ui/login"
    assert browser.get("/", follow=False).status_code == 303
    told = [(each.event, each.detail["by"]) for each in reversed(lines(api))]
    assert told[0] == (LedgerEvent.LOGGED_IN, "clinician")
    assert told[-1] == (LedgerEvent.LOGGED_OUT, "clinician")
    assert (LedgerEvent.SEARCHED, "clinician") in told


def test_the_session_is_the_servers_and_its_cookie_is_kept_from_scripts(api: Api, browser: Browser) -> None:
    browser.get("/login")
    answer = browser.send("/login", {"name": "clinician", "passcode": PASSCODE}, follow=False)
    (cookie,) = [each for each in answer.headers.get_list("set-cookie") if "semblance_session" in each]
    assert {"secure", "httponly", "samesite=lax", "path=/ui"} <= {
        part.strip().lower() for part in cookie.split(";")
    }
    token = cookie.partition("=")[2].partition(";")[0]
    with transaction(api.pool) as connection:
        kept = connection.execute("SELECT * FROM web_session").fetchall()
    assert len(kept) == 1
    assert token not in str(kept)


@pytest.mark.parametrize(
    ("name", "passcode"), [("clinician", "wrong passcode"), ("nobody", PASSCODE), ("", "")]
)
def test_a_wrong_login_is_refused_and_written_down(
    api: Api, browser: Browser, name: str, passcode: str
) -> None:
    answer = browser.log_in(name, passcode)
    assert answer.status_code == 401
    assert "Name or passcode is wrong." in browser.text
    assert "semblance_session" not in browser.cookies
    newest = lines(api)[0]
    assert (newest.event, newest.detail["by"], newest.detail["reason"]) == (
        LedgerEvent.LOGIN_REFUSED,
        name,
        "wrong",
    )
    seal_pending(api.pool, api.settings)
    with transaction(api.pool) as connection:
        (event, *_) = audit_events(connection)
        (message, *_) = audit_messages.newest(connection, 1)
    assert '"outcome":"4"' in event
    assert "User Authentication" in message.message
    assert faults(message.message) == []


def test_who_tries_too_often_waits_even_with_the_right_passcode(api: Api, browser: Browser) -> None:
    for _ in range(MOST_OF_NAME):
        assert browser.log_in("clinician", "wrong passcode").status_code == 401
    answer = browser.log_in("clinician")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "900")
    assert lines(api)[0].detail["reason"] == "too-many"
    assert browser.log_in("quality").url.path == "/ui/", "others are not locked out by it"


def test_an_address_that_tries_many_names_waits(api: Api) -> None:
    guesser = Browser(api, address="10.1.2.3")
    for number in range(MOST_OF_ADDRESS):
        guesser.log_in(f"name{number}")
    assert guesser.log_in("clinician").status_code == 429
    assert Browser(api, address="10.9.9.9").log_in("clinician").status_code == 200


def test_a_login_begins_the_count_anew(browser: Browser) -> None:
    for _ in range(MOST_OF_NAME - 1):
        browser.log_in("clinician", "wrong passcode")
    assert browser.log_in("clinician").url.path == "/ui/"
    browser.cookies.clear()
    for _ in range(MOST_OF_NAME - 1):
        browser.log_in("clinician", "wrong passcode")
    assert browser.log_in("clinician").url.path == "/ui/"


def test_who_is_disabled_is_out_at_once(api: Api, clinician: Browser) -> None:
    assert clinician.get("/").status_code == 200
    with transaction(api.pool) as connection:
        assert users.disable(connection, "clinician")
    assert clinician.get("/", follow=False).status_code == 303
    assert clinician.log_in("clinician").status_code == 401
    assert lines(api)[0].detail["reason"] == "disabled"


def test_another_passcode_ends_what_is_open(api: Api, clinician: Browser) -> None:
    with transaction(api.pool) as connection:
        users.set_passcode(connection, "clinician", "scrypt$1$1$1$AA==$AA==")
    assert clinician.get("/", follow=False).status_code == 303


@pytest.mark.parametrize(
    "ended", ["seen_at = now() - interval '901 seconds'", "ends_at = now()"], ids=["idle", "old"]
)
def test_sessions_end(api: Api, clinician: Browser, ended: str) -> None:
    with transaction(api.pool) as connection:
        connection.execute(f"UPDATE web_session SET {ended}".encode())  # noqa: S608 - of this test
    assert clinician.get("/", follow=False).status_code == 303


def test_a_page_keeps_the_session_alive_though_not_for_ever(api: Api, clinician: Browser) -> None:
    with transaction(api.pool) as connection:
        connection.execute("UPDATE web_session SET seen_at = now() - interval '600 seconds'")
    assert clinician.get("/").status_code == 200
    with transaction(api.pool) as connection:
        row = connection.execute(
            "SELECT seen_at > now() - interval '60 seconds' AS is_fresh,"
            " ends_at <= begun_at + make_interval(secs => %s) AS is_bound FROM web_session",
            (api.settings.web_session_s + 1,),
        ).fetchone()
    assert row == {"is_fresh": True, "is_bound": True}


def test_a_session_of_another_is_not_guessed(clinician: Browser, api: Api) -> None:
    stranger = Browser(api)
    stranger.cookies.set("semblance_session", "x" * 43, domain="semblance.hospital.example", path="/ui")
    assert stranger.get("/", follow=False).status_code == 303


def test_a_token_from_before_the_login_is_none_after_it(api: Api, browser: Browser) -> None:
    browser.cookies.set("semblance_session", "fixed", domain="semblance.hospital.example", path="/ui")
    browser.log_in("clinician")
    stranger = Browser(api)
    stranger.cookies.set("semblance_session", "fixed", domain="semblance.hospital.example", path="/ui")
    assert stranger.get("/", follow=False).status_code == 303


@pytest.mark.parametrize(
    "target", ["//evil.example/", "https://evil.example/", "/\\evil.example", "javascript:x", "/a\nb"]
)
def test_a_login_leads_nowhere_else(browser: Browser, target: str) -> None:
    browser.get("/login")
    answer = browser.send("/login", {"name": "clinician", "passcode": PASSCODE, "next": target}, follow=False)
    assert answer.headers["location"] == "/ui/"


def test_a_passcode_is_not_taken_over_an_open_line(settings_api: Api) -> None:
    plain = Browser(settings_api, base="http://semblance.hospital.example", address="10.0.0.9")
    assert plain.log_in("clinician").status_code == 403
    assert "https" in plain.text


@pytest.fixture
def settings_api(api: Api) -> Api:
    """As ``api``, called by http."""
    update = {"api_base_url": "http://semblance.hospital.example/fhir"}
    return replace(api, settings=api.settings.model_copy(update=update))


def opened(api: Api, **settings: object) -> Api:
    """An API without login."""
    update = {"web_login": "none", "api_base_url": "", **settings}
    return replace(api, settings=api.settings.model_copy(update=update))


def test_without_a_login_pages_are_for_this_machine_and_say_so(api: Api) -> None:
    here = Browser(opened(api), base="http://127.0.0.1:8080")
    assert here.get("/").status_code == 200
    assert "nobody else" in here.text
    assert lines(api)[1].event is LedgerEvent.LOGGED_IN
    assert here.get("/login").url.path == "/ui/"
    assert [each.event for each in lines(api)].count(LedgerEvent.LOGGED_IN) == 1, "one session"


@pytest.mark.parametrize(
    ("base", "address", "headers"),
    [
        ("http://127.0.0.1:8080", "10.0.0.9", {}),
        ("http://semblance.hospital.example", "127.0.0.1", {}),
        ("http://127.0.0.1:8080", "127.0.0.1", {"X-Forwarded-For": "10.0.0.9"}),
        ("http://127.0.0.1:8080", "127.0.0.1", {"Forwarded": "for=10.0.0.9"}),
    ],
)
def test_without_a_login_nobody_else_sees_anything(
    api: Api, base: str, address: str, headers: dict[str, str]
) -> None:
    there = Browser(opened(api), base=base, address=address)
    assert there.get("/", headers=headers).status_code == 403
    assert "No login is configured" in there.text
    assert there.get("/live", headers=headers).status_code in (401, 403)


def test_without_a_login_an_api_for_others_shows_no_pages(api: Api, tmp_path: Path) -> None:
    here = Browser(opened(api, fhir_auth_file=tmp_path / "auth.toml"), base="http://127.0.0.1:8080")
    assert here.get("/").status_code == 403


def test_a_session_of_this_machine_is_none_once_there_is_a_login(api: Api) -> None:
    here = Browser(opened(api), base="http://127.0.0.1:8080")
    here.get("/")
    token = here.cookies["semblance_session"]
    later = Browser(api)
    later.cookies.set("semblance_session", token, domain="semblance.hospital.example", path="/ui")
    assert later.get("/", follow=False).status_code == 303


@pytest.mark.parametrize("role", Role)
def test_a_role_sees_its_pages_and_is_refused_the_others(api: Api, role: Role) -> None:
    browser = Browser(api)
    browser.log_in(role.value)
    found = re.findall(r'<li><a href="/ui(/[^"]*)"', browser.page.text)
    assert "/" in found
    shown = browser.get("/photographs/1.2.3").status_code
    assert shown == (404 if Need.PATIENTS in ALLOWED[role] else 403)
    assert browser.get("/thumbnails/1.2.3").status_code == shown


def test_a_refusal_by_role_is_written_down(api: Api) -> None:
    browser = Browser(api)
    browser.log_in("admin")
    browser.get("/photographs/1.2.3")
    newest = lines(api)[0]
    assert (newest.detail["by"], newest.detail["status"]) == ("admin", "403")
