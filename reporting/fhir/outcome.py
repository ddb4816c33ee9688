"""What goes wrong in the FHIR API, as an OperationOutcome."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import structlog

from service.errors import (
    DatabaseUnavailableError,
    FhirError,
    FhirVersionConflictError,
    StatementTimeoutError,
    TransactionConflictError,
)

_log = structlog.get_logger(__name__)
_LATER = (("Retry-After", "5"),)


class IssueType(StrEnum):
    """Issue types we use (R4 CodeSystem issue-type)."""

    STRUCTURE = "structure"
    REQUIRED = "required"
    VALUE = "value"
    INVARIANT = "invariant"
    INVALID = "invalid"
    SECURITY = "security"
    LOGIN = "login"
    FORBIDDEN = "forbidden"
    NOT_SUPPORTED = "not-supported"
    NOT_FOUND = "not-found"
    DELETED = "deleted"
    MULTIPLE_MATCHES = "multiple-matches"
    TOO_COSTLY = "too-costly"
    INCOMPLETE = "incomplete"
    TOO_LONG = "too-long"
    CONFLICT = "conflict"
    DUPLICATE = "duplicate"
    EXCEPTION = "exception"
    TRANSIENT = "transient"
    LOCK_ERROR = "lock-error"
    TIMEOUT = "timeout"
    THROTTLED = "throttled"
    INFORMATIONAL = "informational"


@dataclass(frozen=True, kw_only=True)
class Issue:
    """One issue of an OperationOutcome."""

    code: IssueType
    diagnostics: str
    expression: str = ""  # FHIRPath to the fault, or ``http.<part>`` for one outside a resource
    severity: str = "error"  # fatal | error | warning | information


class FhirProblemError(FhirError):
    """A request that is answered with an error status and an OperationOutcome.

    Args:
        status: HTTP status.
        code: Issue type.
        diagnostics: What is wrong and what would be right; no patient data.
        expression: Where the fault is.
        issues: More than one issue; replaces code, diagnostics and expression.
        headers: Sent with the answer.
    """

    def __init__(
        self,
        status: int,
        code: IssueType = IssueType.INVALID,
        diagnostics: str = "",
        expression: str = "",
        *,
        issues: tuple[Issue, ...] = (),
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.status = status
        self.issues = issues or (Issue(code=code, diagnostics=diagnostics, expression=expression),)
        self.headers = headers
        super().__init__("; ".join(issue.diagnostics for issue in self.issues))


def status_of(error: FhirError) -> int:
    """HTTP status that an error is answered with."""
    if isinstance(error, FhirProblemError):
        return error.status
    return 412 if isinstance(error, FhirVersionConflictError) else 422


def refusal_of(error: Exception, asked: str) -> FhirProblemError:  # noqa: PLR0911 - a line for each kind
    """How an error is answered, whatever it is.

    Args:
        error: FhirError and DatabaseUnavailableError are ours; of another the log has the traceback.
        asked: What failed, for the log: no patient data.
    """
    if isinstance(error, FhirProblemError):
        return error
    if isinstance(error, FhirVersionConflictError):
        return FhirProblemError(412, IssueType.CONFLICT, str(error), "http.if-match")
    if isinstance(error, FhirError):
        return FhirProblemError(status_of(error), IssueType.INVALID, str(error))
    if isinstance(error, StatementTimeoutError):
        return FhirProblemError(
            503, IssueType.TOO_COSTLY, "the database took too long; ask for less at once", headers=_LATER
        )
    if isinstance(error, TransactionConflictError):
        text = "other writers got in the way at each attempt; try again"
        return FhirProblemError(503, IssueType.LOCK_ERROR, text, headers=_LATER)
    if isinstance(error, DatabaseUnavailableError):
        _log.warning("fhir.database_unavailable", asked=asked)
        text = "the database cannot be reached; try again"
        return FhirProblemError(503, IssueType.TRANSIENT, text, headers=_LATER)
    _log.error("fhir.failed", asked=asked, exc_info=error)
    issue = Issue(code=IssueType.EXCEPTION, diagnostics=f"failed; quote {asked}", severity="fatal")
    return FhirProblemError(500, issues=(issue,))


def operation_outcome(issues: tuple[Issue, ...]) -> dict[str, Any]:
    """Render issues."""
    return {
        "resourceType": "OperationOutcome",
        "issue": [
            {
                "severity": issue.severity,
                "code": issue.code.value,
                "diagnostics": issue.diagnostics,
                **({"expression": [issue.expression]} if issue.expression else {}),
            }
            for issue in issues
        ],
    }
