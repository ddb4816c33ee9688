"""Every text of the pages is there in both languages, and nothing else is in the catalogue."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from reporting.outcomes.charts.records import Denominators, PhotographCounts
from reporting.outcomes.charts.units import Unit
from reporting.outcomes.records import ConflictKind, Laterality, WhyNot
from reporting.outcomes.statistics.xmr import Rule
from reporting.terminology import PURPOSES
from reporting.web.database.today import Show
from reporting.web.pages.table import PAGES
from reporting.web.people import Role
from reporting.web.texts.catalogue import Texts, catalogue, language_of
from service.appraisal.change import Verdict
from service.records import (
    OF_RATINGS,
    DeliveryState,
    ExclusionReason,
    InstanceState,
    LedgerEvent,
    MethodIdentity,
    Region,
    RejectionReason,
)

WEB = Path(__file__).resolve().parents[4] / "reporting" / "web"
GERMAN = Texts(language="de", zone=ZoneInfo("Europe/Berlin"))
ENGLISH = Texts(language="en", zone=ZoneInfo("Europe/Berlin"))
WORDS: tuple[type[StrEnum], ...] = (
    InstanceState,
    LedgerEvent,
    Region,
    RejectionReason,
    ExclusionReason,
    DeliveryState,
    Show,
    Role,
    Verdict,
    Laterality,
    ConflictKind,
    WhyNot,
    Rule,
    Unit,
)


def in_templates() -> set[str]:
    found: set[str] = set()
    for path in WEB.glob("templates/*.html"):
        pairs = re.findall(r"""_\(\s*(["'])((?:(?!\1).)+)\1\s*[,)]""", path.read_text(encoding="utf-8"))
        found |= {text for _, text in pairs}
    return found


def in_code() -> set[str]:
    """Texts of problems, and those of tables: all that is written as a sentence or a title."""
    found: set[str] = set()
    for path in WEB.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        found |= set(re.findall(r'PageProblemError\(\s*\d+,\s*"([^"]+)"', source))
        found |= set(re.findall(r'_NOT_LET_IN = "([^"]+)"', source))
        found |= set(re.findall(r'texts\(\s*"([^"]+)"', source))
        found |= set(re.findall(r'said(?:, status)? = "([^"]+)"', source))
    return found


def rating_bases() -> Iterable[str]:
    for calibration in ("x", f"x{OF_RATINGS}1"):
        yield MethodIdentity(
            name="m", version="1", normaliser="n", comparator="c", weights_sha256="", config_sha256="",
            calibration=calibration,
        ).rating_basis  # fmt: skip


def test_every_text_has_its_german() -> None:
    wanted = in_templates() | in_code() | set(PURPOSES.values()) | set(rating_bases())
    wanted |= {page.title for page in PAGES if page.title}
    assert len(wanted) > 100
    assert wanted - set(catalogue("de")) == set()


@pytest.mark.parametrize("kind", WORDS)
def test_every_stored_name_has_its_german_word(kind: type[StrEnum]) -> None:
    assert {each.value for each in kind if each.value.replace("-", " ") not in catalogue("de")} == set()


def test_german_keeps_the_places_of_values() -> None:
    for english, german in catalogue("de").items():
        assert set(re.findall(r"\{\w*\}", english)) == set(re.findall(r"\{\w*\}", german)), english


def test_days_moments_and_numbers_have_the_form_of_the_language() -> None:
    when = datetime(2026, 7, 1, 22, 30, tzinfo=UTC)
    assert ENGLISH.day(date(2026, 12, 1)) == "1 Dec 2026"
    assert GERMAN.day(date(2026, 12, 1)) == "1. Dez. 2026"
    assert str(GERMAN.moment(when)) == '<time datetime="2026-07-02T00:30:00+02:00">2. Juli 2026, 00:30</time>'
    assert (ENGLISH.number(-1234.5, 1), GERMAN.number(-1234.5, 1)) == ("−1,234.5", "−1.234,5")
    assert (ENGLISH.number(None), GERMAN.day(None)) == ("–", "–")


def test_words_of_names_are_escaped() -> None:
    assert str(ENGLISH.joined(["<b>", "no-face"])) == "&lt;b&gt;, no face"


@pytest.mark.parametrize(
    ("chosen", "accepted", "language"),
    [
        ("", "de-AT,de;q=0.9,en;q=0.5", "de"),
        ("", "fr,en-GB", "en"),
        ("", "", "en"),
        ("de", "en", "de"),
        ("xx", "de", "de"),
    ],
)
def test_the_language_is_the_chosen_one_or_the_browsers(chosen: str, accepted: str, language: str) -> None:
    assert language_of(chosen, accepted) == language


def test_every_denominator_has_its_german_word() -> None:
    cases = Denominators(
        eligible=0, paired=0, missing_before=0, missing_after=0, rejected={}, undecided=0, not_comparable=0,
        withdrawn=0, no_consent=0,
    )  # fmt: skip
    counts = PhotographCounts(known=0, judged=0, rejected={}, without_result=0, withdrawn=0, no_consent=0)
    said = [name for name, _ in (*cases.lines, *counts.lines)]
    assert len(said) > 10
    assert [name for name in said if name not in catalogue("de")] == []
