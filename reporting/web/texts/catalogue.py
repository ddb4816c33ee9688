"""Words by language: English stands in templates and code, German in ``de.toml`` beside this file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

from markupsafe import Markup, escape

LANGUAGES = ("en", "de")
_MONTHS = {
    "en": ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
    "de": ("Jan.", "Feb.", "März", "Apr.", "Mai", "Juni", "Juli", "Aug.", "Sept.", "Okt.", "Nov.", "Dez."),
}


@cache
def catalogue(language: str) -> Mapping[str, str]:
    """English text -> text of a language; empty for English."""
    if language == "en":
        return {}
    raw = tomllib.loads((Path(__file__).parent / f"{language}.toml").read_text(encoding="utf-8"))
    return {**raw["texts"], **raw["words"]}


@dataclass(frozen=True, kw_only=True)
class Texts:
    """What is said in one language, in the reader's zone."""

    language: str
    zone: ZoneInfo

    def __call__(self, english: str, **values: object) -> str:
        """A text in the language, with its values put in."""
        said = catalogue(self.language).get(english, english)
        return said.format(**values) if values else said

    def word(self, value: object) -> str:
        """A name that is stored, as ``left-eye``, as a word."""
        return self(str(value).replace("-", " "))

    def day(self, when: date | None) -> str:
        """A day: 1 Dec 2026, 1. Dez. 2026; a dash where it is not known."""
        if when is None:
            return "–"
        dot = "." if self.language == "de" else ""
        return f"{when.day}{dot} {_MONTHS[self.language][when.month - 1]} {when.year}"

    def moment(self, when: datetime | None) -> Markup:
        """A time of the reader's zone, for people and for programs."""
        if when is None:
            return Markup("–")
        local = when.astimezone(self.zone)
        shown = f"{self.day(local.date())}, {local:%H:%M}"
        return Markup('<time datetime="{}">{}</time>').format(local.isoformat(timespec="seconds"), shown)

    def number(self, value: float | None, digits: int = 0) -> str:
        """A number with the language's separators; a dash where there is none."""
        if value is None:
            return "–"
        shown = f"{value:,.{digits}f}".replace("-", "−")
        return shown.translate(str.maketrans(",.", ".,")) if self.language == "de" else shown

    def joined(self, values: object) -> Markup:
        """Words of names, with commas."""
        listed = values if isinstance(values, (list, tuple)) else [values]
        return Markup(", ").join(escape(self.word(each)) for each in listed)


def language_of(chosen: str, accepted: str) -> str:
    """The language somebody chose, or the first of their browser's that there is.

    Args:
        chosen: By a cookie; "" where nothing was.
        accepted: Header Accept-Language.
    """
    if chosen in LANGUAGES:
        return chosen
    for each in accepted.split(","):
        code = each.partition(";")[0].strip().lower().partition("-")[0]
        if code in LANGUAGES:
            return code
    return LANGUAGES[0]
