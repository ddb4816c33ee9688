"""What a page is: its path, who may see it, its handler; and what handlers get and give."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from reporting.fhir.http import Api
from reporting.web.drawn import DrawnCharts
from reporting.web.people import Need, Visitor
from reporting.web.texts.catalogue import Texts
from service.errors import SemblanceError


class Deed(StrEnum):
    """What somebody does by a page, for the audit trail."""

    LOOK = "look"  # at numbers, lists or charts
    VIEW = "view"  # of a photograph or patient
    ACT = "act"
    EXPORT = "export"


@dataclass(frozen=True, kw_only=True)
class Visit:
    """One request of somebody for a page."""

    api: Api
    root: str  # path that pages lie below, without a trailing slash
    path: str  # of the page, below that
    parameters: Mapping[str, str]  # of the path
    query: Mapping[str, str]
    form: Mapping[str, str]  # of a POST; "" and () of a GET
    visitor: Visitor
    token_sha256: bytes  # of the session
    peer: str  # address of who asks
    form_token: str  # that forms must bring back
    texts: Texts
    zone: ZoneInfo  # of the reader
    drawn: DrawnCharts  # of this process


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What an answer showed or did, for the audit trail."""

    patients: tuple[str, ...] = ()  # logical ids
    photographs: tuple[str, ...] = ()  # SOP Instance UIDs; of these the ledger has a line each
    resources: tuple[str, ...] = ()  # references, as Observation/...
    purpose: str = ""  # code of v3 PurposeOfUse
    note: str = ""  # what was done, in words without patient data
    query: str = ""  # what was looked for, as FHIR keeps it; may name patients


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A page that is to be rendered."""

    template: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    seen: Seen = field(default_factory=Seen)
    status: int = 200


@dataclass(frozen=True, kw_only=True)
class Moved:
    """Go to another page, after something was done."""

    path: str  # below the root
    seen: Seen = field(default_factory=Seen)


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A picture or a file."""

    body: bytes
    media_type: str
    seen: Seen | None = None  # None: covered by the page it is part of
    file_name: str = ""  # it is to be saved as
    keep_s: int = 0  # the reader's browser may keep it so long


Answer = Shown | Moved | Sent
Handler = Callable[[Visit], Answer]


@dataclass(frozen=True, kw_only=True)
class Page:
    """A row of the table of pages."""

    path: str  # below the root, with parameters as Starlette writes them
    need: Need
    handler: Handler
    title: str = ""  # in the menu; "" for pages that are not in it
    method: str = "GET"
    deed: Deed = Deed.LOOK


class PageProblemError(SemblanceError):
    """A page cannot be shown: words for the reader, and the HTTP status."""

    def __init__(self, status: int, text: str, **values: object) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.values = values


class PurposeNeededError(SemblanceError):
    """Before a patient is opened somebody says what for."""

    def __init__(self, patient: str) -> None:
        super().__init__("the purpose of use is asked for")
        self.patient = patient


def menu(pages: Sequence[Page], visitor: Visitor) -> list[Page]:
    """The pages somebody may go to, in their order."""
    return [each for each in pages if each.title and visitor.may(each.need)]
