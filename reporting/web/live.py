"""Numbers as they change, by server-sent events (WHATWG HTML section 9.2)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from reporting.fhir.http import Api
from reporting.web.database import sessions, today
from reporting.web.texts.catalogue import Texts
from service.database.pool import transaction
from service.errors import DatabaseUnavailableError

_EVERY_S = 2.0
_LOOK_S = 0.25  # whether the process ends
_LONGEST_S = 300.0  # then the browser asks again, and who it is is looked at again
_ALIVE_S = 15.0  # a line at least so often, so that proxies keep the connection


def live(api: Api, request: Request, token_sha256: bytes, texts: Texts) -> Response:
    """An answer that goes on: today's numbers whenever they change, while the session lasts."""
    headers = {"X-Accel-Buffering": "no"}
    events = _events(api, request, token_sha256, texts)
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


async def _events(api: Api, request: Request, token_sha256: bytes, texts: Texts) -> AsyncIterator[str]:
    begun_s = said_s = time.monotonic()
    last = ""
    yield "retry: 3000\n\n"
    while time.monotonic() - begun_s < _LONGEST_S:
        try:
            now = await run_in_threadpool(_numbers, api, token_sha256, texts)
        except DatabaseUnavailableError:
            now = last
        if now is None:
            return  # the session has ended
        if now != last or time.monotonic() - said_s > _ALIVE_S:
            yield f"event: numbers\ndata: {now}\n\n" if now != last else ": alive\n\n"
            last, said_s = now, time.monotonic()
        until_s = time.monotonic() + _EVERY_S
        while time.monotonic() < until_s:
            if api.stopping.is_set() or await request.is_disconnected():
                return
            await asyncio.sleep(_LOOK_S)


def _numbers(api: Api, token_sha256: bytes, texts: Texts) -> str | None:
    with transaction(api.pool) as connection:
        if sessions.find(connection, token_sha256, api.settings.web_session_idle_s) is None:
            return None
        counted = today.counts(connection, today.midnight(texts.zone))
    return json.dumps({name: texts.number(number) for name, number in counted.items()})
