"""One request, with who asks and what they may see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from reporting.dicomweb.problem import DicomwebError, not_found
from reporting.fhir.access import Principal
from reporting.fhir.http import Api
from reporting.holdings.database import holdings
from reporting.holdings.database.holding_records import HeldInstance
from reporting.holdings.index import catch_up
from reporting.holdings.recoding import Recoder
from reporting.wire.accept import Accepted, accepted
from service.database.pool import transaction

PATH = "/dicom-web"
_CATCH_UP_S = 5.0  # longest a request waits for the index


class Intake(Protocol):
    """Takes one Part 10 file in, as C-STORE would."""

    def write(self, chunk: bytes) -> None:
        """Take the next piece; must not raise for what the sender did wrong."""

    def finish(self) -> Stored:
        """Take the end; answer what became of it."""

    def abandon(self) -> None:
        """Keep nothing: the request ended early."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What became of an instance that was offered."""

    status: int  # of C-STORE (PS3.4 section B.2.3)
    comment: str
    sop_class_uid: str  # "" where it could not be read
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str


# Begins an Intake: client id, network address, Study Instance UID it must be of ("" for any).
Receive = Callable[[str, str, str], Intake]


@dataclass(frozen=True, kw_only=True)
class Service:
    """What every handler works with; made once."""

    api: Api
    base_url: str  # ends in /dicom-web
    receive: Receive | None  # None: nothing is taken in here
    recoder: Recoder

    def instance_url(self, instance: HeldInstance) -> str:
        """Where an instance is retrieved."""
        return (
            f"{self.base_url}/studies/{instance.study_instance_uid}/series/{instance.series_instance_uid}"
            f"/instances/{instance.sop_instance_uid}"
        )


def _uid_of_path(request: Request, name: str) -> str:
    """A UID of the path; NUL, which is in no UID and which PostgreSQL does not take, becomes a mark."""
    return str(request.path_params.get(name, "")).replace("\0", "\ufffd")


@dataclass(kw_only=True)
class Call:
    """One request."""

    service: Service
    request: Request
    principal: Principal
    patients: tuple[str, ...] | None  # logical ids of the Patients whose part alone is shown; None for all
    studies: set[str] = field(default_factory=set)  # shown, for the audit
    shown: set[str] = field(default_factory=set)  # logical ids of the Patients of what was shown

    @property
    def study(self) -> str:
        """Study Instance UID of the path; "" when there is none."""
        return _uid_of_path(self.request, "study")

    @property
    def series(self) -> str:
        """Series Instance UID of the path."""
        return _uid_of_path(self.request, "series")

    @property
    def instance(self) -> str:
        """SOP Instance UID of the path."""
        return _uid_of_path(self.request, "instance")

    def accepted(self) -> list[Accepted]:
        """What the client accepts, best first."""
        header = ",".join(self.request.headers.getlist("accept"))
        return accepted(header, self.request.query_params.getlist("accept"))

    def current(self) -> None:
        """Wait for the index.

        Raises:
            DicomwebError: 503: it is too far behind what was received.
        """
        api = self.service.api
        if not catch_up(api.pool, api.store, _CATCH_UP_S):
            raise DicomwebError(503, "the index is behind what was received", (("Retry-After", "10"),))

    def held(self) -> list[HeldInstance]:
        """The instances the path names, at least one.

        Raises:
            DicomwebError: 404.
        """
        found = self._instance() if self.instance else []
        if not found:
            self.current()
            found = self._instance() if self.instance else self._instances()
        if not found:
            raise not_found("the instance" if self.instance else "the series" if self.series else "the study")
        self.studies.add(self.study)
        self.shown.update(each.patient for each in found)
        return found

    def _instance(self) -> list[HeldInstance]:
        with transaction(self.service.api.pool) as connection:
            found = holdings.by_uid(connection, self.instance)
        in_path = (self.study, self.series)
        if found is None or (found.study_instance_uid, found.series_instance_uid) != in_path:
            return []
        return [found] if self.patients is None or found.patient in self.patients else []

    def _instances(self) -> list[HeldInstance]:
        with transaction(self.service.api.pool) as connection:
            return holdings.of_study(connection, self.study, self.series, self.patients)


Handler = Callable[[Call], Response]
