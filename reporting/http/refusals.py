"""What is refused before an application sees it is recorded like every access."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from starlette.concurrency import run_in_threadpool

from reporting.fhir.access import NOBODY
from reporting.fhir.http import Api, Request
from reporting.http.fhir_routes import refused
from service.errors import DatabaseUnavailableError

_log = structlog.get_logger(__name__)

Record = Callable[[Mapping[str, Any], int], Awaitable[None]]  # of an ASGI scope and the status of its answer


async def record_nothing(_scope: Mapping[str, Any], _status: int) -> None:
    """Keep no record."""


def recorder(api: Api) -> Record:
    """What records refusals in the audit trail of an API."""

    async def record(scope: Mapping[str, Any], status: int) -> None:
        try:
            await run_in_threadpool(refused, api, refused_request(scope), status)
        except DatabaseUnavailableError as exc:
            _log.warning("http-refusal-not-recorded", status=status, error=str(exc))

    return record


def refused_request(scope: Mapping[str, Any]) -> Request:
    """A request as far as it is known before anything is read of it but its head; of nobody."""
    return Request(
        method=scope["method"],
        path=(str(scope["path"]).removeprefix("/fhir").strip("/"),),
        query=(),
        headers=headers_of(scope),
        body=b"",
        principal=NOBODY,
        peer=(scope.get("client") or ("", 0))[0],
    )


def headers_of(scope: Mapping[str, Any]) -> dict[str, str]:
    """Headers of a request, names in lower case."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
