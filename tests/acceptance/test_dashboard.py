"""The dashboard in a real browser: every page clicked through, by keyboard, light and dark, on a tablet.

Five simulated years of outcomes, and one photograph with all its pictures, are served by the real server.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from reporting.outcomes.simulation.world import simulate
from reporting.outcomes.simulation.writing import pair_all, write_world
from reporting.report import report
from reporting.web.database import users
from reporting.web.people import Role
from service.commands.program import PROGRAM
from service.config import Settings
from service.database.pool import open_pool, transaction
from service.passcodes import digest_of
from service.pipeline.context import Context
from service.stack.servers import EmbeddedPostgres
from service.storage.local import open_store
from tests.conftest import cloned_database, settings_of
from tests.integration.reporting.judging import judge
from tests.integration.reporting.web.browsing import PASSCODE
from tests.integration.reporting.web.judged import shown
from tests.unit.reporting.photographs import SOP_UID, photograph

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

pytestmark = pytest.mark.peers("chromium", "playwright")

EVERYTHING = "whole"  # a user of every role
MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>"
NAME = "<script>alert(3)</script>^<b onfocus>"  # without what parts a name of DICOM


@dataclass(frozen=True)
class Site:
    """A dashboard that is served."""

    url: str
    settings: Settings


@pytest.fixture(scope="module")
def site(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder: Path = tmp_path_factory.mktemp("dashboard")
    with cloned_database(postgres) as url:
        settings = settings_of(url, folder)
        with open_pool(settings) as pool:
            with transaction(pool) as connection:
                write_world(connection, simulate(20))
                pair_all(connection, settings)
                for name, roles in ((EVERYTHING, list(Role)), ("clinician", [Role.CLINICIAN])):
                    users.add(
                        connection,
                        name=name,
                        full_name=MARKUP if name == EVERYTHING else "",
                        roles=[role.value for role in roles],
                        passcode=digest_of(PASSCODE.encode()),
                    )
            context = Context(settings=settings, pool=pool, store=open_store(settings))
            report(context, judge(context, shown(context), photograph(PatientName=NAME)))
        environment = os.environ | {
            "SEMBLANCE_DATABASE_URL": url,
            "SEMBLANCE_STORAGE_DIR": str(settings.storage_dir),
            "SEMBLANCE_STORAGE_LOW_WATERMARK_BYTES": "0",
            "SEMBLANCE_API_PORT": "0",
            "SEMBLANCE_WEB_LOGIN": "passcode",
        }
        command = [*PROGRAM, "api"]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                served = json.loads(process.stdout.readline())["url"].removesuffix("/fhir")
                yield Site(url=f"{served}/ui", settings=settings)
                process.send_signal(signal.SIGTERM)
                assert process.wait(timeout=60) in (0, -signal.SIGTERM), "open streams do not hold it up"
            finally:
                process.kill()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    from tests.peers import find_peer

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_peer("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Reader:
    """Somebody at a browser."""

    page: Page
    url: str
    said: list[str] = field(default_factory=list)  # messages of the console, and what scripts threw

    def go(self, path: str) -> None:
        self.page.goto(f"{self.url}{path}")

    def log_in(self, name: str = EVERYTHING, passcode: str = PASSCODE) -> None:
        self.go("/login")
        self.page.fill("input[name=name]", name)
        self.page.fill("input[name=passcode]", passcode)
        with self.page.expect_navigation():
            self.page.keyboard.press("Enter")

    def give_purpose(self) -> None:
        if self.page.locator("input[name=purpose]").count():
            self.page.check("input[value=HQUALIMP]")
            with self.page.expect_navigation():
                self.page.keyboard.press("Enter")

    def faults(self) -> list[str]:
        """What axe finds on the page that is open."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in found]

    def scrolls_sideways(self) -> bool:
        root = "document.documentElement"
        return bool(self.page.evaluate(f"{root}.scrollWidth > {root}.clientWidth"))


def reader(chromium: Browser, site: Site, **context: Any) -> tuple[BrowserContext, Reader]:
    opened = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **context})
    made = Reader(page=opened.new_page(), url=site.url)
    made.page.on("console", lambda message: made.said.append(message.text))
    made.page.on("pageerror", lambda error: made.said.append(str(error)))

    def refuse(dialog: Any) -> None:
        made.said.append(dialog.message)
        dialog.dismiss()

    made.page.on("dialog", refuse)
    return opened, made


@pytest.fixture
def anna(chromium: Browser, site: Site) -> Iterator[Reader]:
    context, made = reader(chromium, site)
    yield made
    context.close()


def tour(anna: Reader) -> Iterator[str]:
    """Every page, clicked through; gives the name of each once it is open."""
    anna.go("/login")
    yield "login"
    anna.log_in()
    yield "today"
    with anna.page.expect_navigation():
        anna.page.click("nav a[href$='/worklist']")
    yield "photographs"
    anna.go(f"/photographs/{SOP_UID}")
    if anna.page.locator("input[name=purpose]").count():
        yield "purpose"
        anna.give_purpose()
    yield "photograph"
    anna.go("/cohorts")
    yield "cohorts"
    anna.page.fill("input[name=title]", MARKUP)
    anna.page.click("form.fields button")
    anna.page.wait_for_selector("svg.chart")
    cohort = anna.page.url.removeprefix(anna.url)
    yield "chart xmr"
    for kind in ("run", "p", "time", "funnel", "cusum"):
        anna.go(f"{cohort}?chart={kind}")
        yield f"chart {kind}"
    anna.go(cohort)
    anna.page.locator("svg.chart a").first.click()
    anna.page.wait_for_url("**/point?**")
    yield "point"
    with anna.page.expect_navigation():
        anna.page.locator("tbody a").first.click()
    anna.give_purpose()
    yield "patient"
    for name in ("conflicts", "phases", "audit", "system"):
        anna.go(f"/{name}")
        yield name


@pytest.mark.parametrize(
    ("scheme", "width", "locale"),
    [("light", 1280, "en-GB"), ("dark", 1280, "de-DE"), ("light", 768, "de-DE"), ("dark", 640, "en-GB")],
    ids=["light", "dark", "tablet", "200 % zoom"],
)
def test_every_page_is_accessible_and_says_nothing_on_the_console(
    chromium: Browser, site: Site, scheme: str, width: int, locale: str
) -> None:
    context, anna = reader(
        chromium, site, color_scheme=scheme, viewport={"width": width, "height": 900}, locale="en-GB"
    )
    if locale.startswith("de"):
        context.add_cookies([{"name": "semblance_language", "value": "de", "url": site.url}])
    faults: dict[str, list[str]] = {}
    seen = []
    for name in tour(anna):
        anna.page.wait_for_load_state("load")
        seen.append(name)
        faults[name] = anna.faults() + (["scrolls sideways"] if anna.scrolls_sideways() else [])
    context.close()
    assert len(seen) >= 16
    assert {name: found for name, found in faults.items() if found} == {}
    assert anna.said == []


def test_each_point_of_a_chart_is_reached_and_opened_by_keyboard(anna: Reader) -> None:
    anna.log_in()
    anna.go("/cohorts")
    with anna.page.expect_navigation():
        anna.page.click("form.fields button")
    points = anna.page.locator("svg.chart a")
    number = points.count()
    assert number > 24
    anna.page.keyboard.press("Tab")
    assert anna.page.evaluate("document.activeElement.className") == "skip", (
        "first comes the way past the menu"
    )
    reached = []
    for _ in range(number + 40):
        anna.page.keyboard.press("Tab")
        label = anna.page.evaluate(
            "document.activeElement.closest('svg.chart') && document.activeElement.getAttribute('aria-label')"
        )
        if label:
            reached.append(label)
    assert len(set(reached)) == number
    points.nth(5).focus()
    anna.page.keyboard.press("Enter")
    anna.page.wait_for_url("**/point?**")
    assert anna.page.locator("tbody tr").count() > 0


def test_the_slider_shows_the_photograph_below_the_heatmap(anna: Reader) -> None:
    anna.log_in()
    anna.go(f"/photographs/{SOP_UID}")
    anna.give_purpose()
    slider, over = anna.page.locator("#opacity"), anna.page.locator("[data-layer=painted]")
    assert over.evaluate("each => each.complete && each.naturalWidth > 0")
    slider.focus()
    anna.page.keyboard.press("Home")
    assert over.evaluate("each => getComputedStyle(each).opacity") == "0"
    anna.page.keyboard.press("End")
    assert over.evaluate("each => getComputedStyle(each).opacity") == "1"
    assert anna.page.locator("#opacity-said").inner_text() == "100 %"
    assert anna.said == []


def test_names_with_markup_run_nothing(anna: Reader) -> None:
    anna.log_in()
    anna.go("/worklist")
    assert MARKUP in anna.page.inner_text("header")
    assert "<b onfocus>" in anna.page.inner_text("#list")
    anna.go(f"/photographs/{SOP_UID}")
    anna.give_purpose()
    assert anna.page.inner_text("h1") == NAME.replace("^", " ")
    assert anna.said == []


def test_what_is_put_into_a_page_does_not_run(anna: Reader) -> None:
    anna.log_in()
    anna.page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran = 1\">');"
        "const made = document.createElement('script'); made.textContent = 'window.ran = 1';"
        "document.body.append(made)"
    )
    anna.page.wait_for_timeout(300)
    assert anna.page.evaluate("window.ran") is None
    assert [each for each in anna.said if "Content Security Policy" in each]


def test_a_wrong_passcode_is_said_and_the_right_one_lets_in(anna: Reader) -> None:
    anna.log_in("clinician", "wrong passcode")
    assert "Name or passcode is wrong." in anna.page.inner_text("[role=alert]")
    anna.log_in("clinician")
    assert anna.page.inner_text("h1") == "Today"
    anna.go("/system")
    assert "Your roles do not allow this page." in anna.page.inner_text("[role=alert]")


def test_a_session_that_ended_asks_to_log_in_and_goes_on_where_it_was(anna: Reader, site: Site) -> None:
    anna.log_in("clinician")
    anna.go("/worklist?show=rejected")
    with open_pool(site.settings) as pool, transaction(pool) as connection:
        connection.execute("UPDATE web_session SET seen_at = now() - interval '1 day'")
    anna.page.reload()
    assert re.search(r"/ui/login\?next=", anna.page.url)
    anna.page.fill("input[name=name]", "clinician")
    anna.page.fill("input[name=passcode]", PASSCODE)
    with anna.page.expect_navigation():
        anna.page.keyboard.press("Enter")
    anna.page.wait_for_url("**/worklist?show=rejected")


def test_numbers_of_today_follow_by_themselves(anna: Reader, site: Site) -> None:
    anna.log_in()
    dead = anna.page.locator("[data-number=dead]")
    assert dead.inner_text() == "0"
    with open_pool(site.settings) as pool, transaction(pool) as connection:
        connection.execute("UPDATE instance SET state = 'dead' WHERE sop_instance_uid = %s", (SOP_UID,))
    dead.filter(has_text="1").wait_for()
    with open_pool(site.settings) as pool, transaction(pool) as connection:
        connection.execute("UPDATE instance SET state = 'delivered' WHERE sop_instance_uid = %s", (SOP_UID,))
    dead.filter(has_text="0").wait_for()


def test_the_list_is_filtered_in_place_and_its_address_can_be_sent(anna: Reader) -> None:
    anna.log_in()
    anna.go("/worklist")
    anna.page.select_option("select[name=show]", "rejected")
    anna.page.wait_for_url("**show=rejected**")
    anna.page.wait_for_selector("#list .empty")
    assert "Nothing is on this list." in anna.page.inner_text("#list")
    assert anna.said == []
