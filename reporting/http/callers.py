"""What stands before the applications beside the FHIR API: no NUL, and no pages of other origins."""

from __future__ import annotations

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from reporting.fhir.guard import check_caller
from reporting.fhir.outcome import FhirProblemError
from reporting.http.refusals import Record, headers_of, record_nothing
from service.config import Settings

_OF_FHIR = ("/fhir", "/healthz", "/readyz")  # which answers for itself


class Callers:
    """An ASGI application before others; see the module's text.

    Args:
        app: Behind it.
        settings: Uses ``dicomweb_allowed_origins`` and who the API is called by.
        is_open: Whether no authorisation is configured: then the origin of pages is looked at.
        record: Records what is refused here.
    """

    def __init__(
        self, app: ASGIApp, settings: Settings, *, is_open: bool, record: Record = record_nothing
    ) -> None:
        self._app = app
        self._settings = settings
        self._is_open = is_open
        self._record = record

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        refused = self._refused(scope) if scope["type"] == "http" else None
        if refused is not None:
            await self._record(scope, refused.status_code)
        await (self._app if refused is None else refused)(scope, receive, send)

    def _refused(self, scope: Scope) -> JSONResponse | None:
        path, query = scope["path"], scope.get("query_string", b"")
        if path.startswith(_OF_FHIR):
            return None
        if "\x00" in path or b"%00" in query or b"\x00" in query:
            return JSONResponse({"error": "a path and a query have no NUL"}, status_code=400)
        if not self._is_open:
            return None
        try:
            check_caller(
                self._settings, scope["method"], headers_of(scope), self._settings.dicomweb_allowed_origins
            )
        except FhirProblemError as exc:
            return JSONResponse({"error": str(exc)}, status_code=exc.status)
        return None
