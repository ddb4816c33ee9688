"""The body of a refusal where no standard says what it is; FHIR has OperationOutcome."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse, Response


def problem(status: int, reason: str, headers: Mapping[str, str] | None = None) -> Response:
    """A refusal.

    Args:
        status: HTTP status.
        reason: For people; no patient data.
        headers: To be sent with it.
    """
    return JSONResponse({"error": reason}, status_code=status, headers=dict(headers or {}))


def database_unavailable() -> Response:
    """503: to be asked again."""
    return problem(503, "the database cannot be reached; try again", {"Retry-After": "5"})
