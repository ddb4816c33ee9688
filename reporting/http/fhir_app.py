"""The ASGI application: HTTP in, handlers in threads, HTTP out."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, unquote
from uuid import uuid4

import simplejson
import structlog

from reporting.fhir.access import NOBODY
from reporting.fhir.guard import base_url_of, check_caller, cors_headers, preflight_headers
from reporting.fhir.http import (
    FHIR_JSON,
    MOST_BODY_BYTES,
    NDJSON,
    PLAIN_JSON,
    Api,
    Request,
    Response,
    served_type,
)
from reporting.fhir.outcome import (
    FhirProblemError,
    Issue,
    IssueType,
    operation_outcome,
    refusal_of,
    status_of,
)
from reporting.fhir.render import dumps, loads
from reporting.http.body import MOST_OPEN_BYTES, Bodies, Body
from reporting.http.fhir_routes import check_scope, handle, refused, route_of
from reporting.http.refusals import headers_of, refused_request
from service.config import Settings
from service.database.budget import budget
from service.database.pool import connect
from service.errors import DatabaseUnavailableError, FhirError
from service.operations.readiness import Check, Readiness, database_check, store_check

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_LEAST_GZIP_BYTES = 1400
_GZIP_LEVEL = 1
_OWN_FORMATS = (("Binary",), ("auth",), (".well-known",), ("openapi.json",), ("$export-file",))

_HEALTH = ("/healthz", "/readyz")

log = structlog.get_logger(__name__)


def readiness_checks(settings: Settings) -> list[Check]:
    """What the API needs."""
    return [database_check(settings), store_check(settings)]


class FhirApp:
    """ASGI application of the FHIR API, at ``/fhir``, with ``/healthz`` and ``/readyz`` beside it.

    Args:
        api: What the handlers work with.
    """

    def __init__(self, api: Api) -> None:
        self.api = api
        workers = max(2, api.settings.database_pool_size)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="fhir")
        self._health_thread = ThreadPoolExecutor(1, thread_name_prefix="health")
        self._bodies = Bodies()
        self._readiness = Readiness(readiness_checks(api.settings))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        request_id = str(uuid4())
        if scope["path"] in _HEALTH:
            loop = asyncio.get_running_loop()
            answer = self._health if scope["path"] == "/healthz" else self._ready
            response = await loop.run_in_executor(self._health_thread, answer)
            await self._send(scope, response, request_id, receive, send)
            return
        with self._bodies.holding((scope.get("client") or ("", 0))[0]) as body:
            response = await self._served(scope, body, request_id, receive)
            await self._send(scope, response, request_id, receive, send)

    async def _served(self, scope: Scope, body: Body, request_id: str, receive: Receive) -> Response:
        """Read the body, of who may send one, and answer."""
        loop = asyncio.get_running_loop()
        content = b""
        if _announces_body(scope):
            most = await loop.run_in_executor(self._threads, self._most_body_bytes, scope)
            try:
                content = await body.read(receive, most) if most else b""
            except FhirError as exc:
                return await loop.run_in_executor(self._threads, self._refused, scope, exc, request_id)
        return await loop.run_in_executor(self._threads, self.serve, scope, content, request_id)

    def _most_body_bytes(self, scope: Scope) -> int:
        """How much of a body is read: nothing of who is refused by the headers alone."""
        if self.api.authorizer is None:
            return MOST_BODY_BYTES
        try:
            request = self._request({**scope, "query_string": b""}, b"")
            route, parameters = route_of(request.method, request.path)
            if route.public:
                return MOST_OPEN_BYTES
            check_scope(route, parameters, self.api.authorizer.principal(request.headers))
        except FhirError:
            return 0
        return MOST_BODY_BYTES

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                self._threads.shutdown(wait=True)
                self._health_thread.shutdown(wait=True)
                await send({"type": "lifespan.shutdown.complete"})
                return

    def serve(self, scope: Scope, body: bytes, request_id: str) -> Response:
        """Answer one request; every failure becomes an OperationOutcome."""
        headers, path = headers_of(scope), scope["path"]
        origins = self.api.settings.fhir_allowed_origins
        if scope["method"] == "OPTIONS" and (allowed := preflight_headers(path, headers, origins)):
            return Response(status=204, headers=allowed)
        response = self._answered(scope, body, request_id)
        return replace(response, headers=(*response.headers, *cors_headers(path, headers, origins)))

    def _answered(self, scope: Scope, body: bytes, request_id: str) -> Response:
        try:
            request, content_type = self._asked(scope, body)
        except FhirError as exc:
            return self._refused(scope, exc, request_id)
        except Exception as exc:  # noqa: BLE001 - the border: every failure is answered, and none ends the process
            return _refusal(exc, f"request {request_id}")
        try:
            with budget(self.api.settings.api_request_timeout_s):
                return self._answer(request, content_type)
        except Exception as exc:  # noqa: BLE001 - the border
            return _refusal(exc, f"request {request_id}")

    def _refused(self, scope: Scope, error: FhirError, request_id: str) -> Response:
        """Answer and record what is refused before a handler sees it."""
        try:
            refused(self.api, refused_request(scope), status_of(error))
        except DatabaseUnavailableError as exc:
            return _refusal(exc, f"request {request_id}")
        return _refusal(error, f"request {request_id}")

    def _asked(self, scope: Scope, body: bytes) -> tuple[Request, str]:
        """The request, and the media type of its answer."""
        path = scope["path"]
        if path != "/fhir" and not path.startswith("/fhir/"):
            raise FhirProblemError(404, IssueType.NOT_FOUND, "the API is at /fhir", "http.path")
        headers = headers_of(scope)
        if self.api.authorizer is None:
            settings = self.api.settings
            check_caller(settings, scope["method"], headers, settings.fhir_allowed_origins)
        request = self._request(scope, body)
        # a picture or a token is not FHIR: its handler looks at Accept itself
        return request, FHIR_JSON if request.path[:1] in _OWN_FORMATS else served_type(request)

    def _answer(self, request: Request, content_type: str) -> Response:
        api = self.api.called_by(base_url_of(self.api.settings, request.peer, request.headers))
        response = handle(api, request)
        if request.option("_pretty") == "true" and response.body:
            response = replace(response, body=_pretty(response.body))
        if response.content_type == FHIR_JSON and content_type == PLAIN_JSON:
            return replace(response, content_type=PLAIN_JSON)
        return response

    def _request(self, scope: Scope, body: bytes) -> Request:
        raw_path = scope.get("raw_path") or scope["path"].encode()
        below = raw_path.decode("ascii", "replace").removeprefix("/fhir").strip("/")
        path = tuple(unquote(segment) for segment in below.split("/")) if below else ()
        if any("\x00" in segment for segment in path):
            raise FhirProblemError(400, IssueType.VALUE, "a path has no NUL", "http.path")
        query = _query(scope["query_string"])
        return Request(
            method=scope["method"],
            path=path,
            query=query,
            headers=headers_of(scope),
            body=body,
            principal=NOBODY,
            peer=(scope.get("client") or ("", 0))[0],
        )

    def _health(self) -> Response:
        try:
            with connect(self.api.settings) as connection:  # beside the pool, which may be busy
                connection.execute("SELECT 1")
        except DatabaseUnavailableError:
            return Response(status=503, body=b'{"status":"database unavailable"}', content_type=PLAIN_JSON)
        return Response(body=b'{"status":"ok"}', content_type=PLAIN_JSON)

    def _ready(self) -> Response:
        """Without the reasons: this door is open to everybody."""
        if self._readiness.failures():
            return Response(status=503, body=b'{"status":"not ready"}', content_type=PLAIN_JSON)
        return Response(body=b'{"status":"ready"}', content_type=PLAIN_JSON)

    async def _send(
        self, scope: Scope, response: Response, request_id: str, receive: Receive, send: Send
    ) -> None:
        headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.headers
        ]
        body, chunks = response.body, response.chunks
        if body or chunks:
            charset = "; charset=utf-8" if response.content_type in (FHIR_JSON, PLAIN_JSON, NDJSON) else ""
            headers.append((b"content-type", f"{response.content_type}{charset}".encode()))
            headers.append((b"vary", b"accept, accept-encoding"))
        headers.append((b"x-request-id", request_id.encode()))
        headers.append((b"cache-control", b"no-store, private"))
        if (chunks is not None or len(body) >= _LEAST_GZIP_BYTES) and _takes_gzip(scope):
            body = gzip.compress(body, _GZIP_LEVEL, mtime=0)
            chunks = None if chunks is None else _gzipped(chunks)
            headers.append((b"content-encoding", b"gzip"))
        if chunks is None and response.status != 304:
            headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
        elif chunks is None:
            await send({"type": "http.response.body", "body": body})
        else:
            await self._stream(chunks, receive, send)

    async def _stream(self, chunks: Iterable[bytes], receive: Receive, send: Send) -> None:
        """Send chunks, the next being made while one is sent; end when the client has gone."""
        loop = asyncio.get_running_loop()
        iterator = iter(chunks)
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            following = loop.run_in_executor(self._threads, next, iterator, None)
            while (chunk := await following) is not None and not gone.done():
                following = loop.run_in_executor(self._threads, next, iterator, None)
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()


async def _disconnected(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _gzipped(chunks: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS | 16)  # 16: as a gzip file
    for chunk in chunks:
        yield packer.compress(chunk) or packer.flush(zlib.Z_SYNC_FLUSH)
    yield packer.flush()


def _announces_body(scope: Scope) -> bool:
    """Whether a request has a body, by its headers (RFC 9112 section 6.3)."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip() != b"0")
        for name, value in scope["headers"]
    )


def _query(raw: bytes) -> tuple[tuple[str, str], ...]:
    try:
        pairs = parse_qsl(raw.decode("utf-8"), keep_blank_values=True, max_num_fields=200, errors="strict")
    except ValueError as exc:
        raise FhirProblemError(
            400, IssueType.VALUE, f"the query cannot be read: {exc}", "http.query"
        ) from exc
    if any("\x00" in text for pair in pairs for text in pair):
        raise FhirProblemError(400, IssueType.VALUE, "a parameter has no NUL", "http.query")
    return tuple(pairs)


def _takes_gzip(scope: Scope) -> bool:
    for name, value in scope["headers"]:
        if name == b"accept-encoding":
            return any(
                part.strip().startswith("gzip") and not part.replace(" ", "").endswith(";q=0")
                for part in value.decode("latin-1").lower().split(",")
            )
    return False


def _pretty(body: bytes) -> bytes:
    text: str = simplejson.dumps(loads(body), ensure_ascii=False, indent=2, use_decimal=True)
    return text.encode()


def _refusal(error: Exception, asked: str) -> Response:
    refused = refusal_of(error, asked)
    return _problem(refused.status, refused.issues, refused.headers)


def _problem(status: int, issues: tuple[Issue, ...], headers: tuple[tuple[str, str], ...] = ()) -> Response:
    return Response(status=status, body=dumps(operation_outcome(issues)).encode(), headers=headers)
