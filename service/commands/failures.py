"""What a person reads, and the exit code, when a command or a process ends in an error."""

from __future__ import annotations

import sys

from service.errors import (
    DatabaseUnavailableError,
    SchemaLockedError,
    SemblanceError,
    StatementTimeoutError,
    TransactionConflictError,
)
from service.exit_codes import ExitCode, code_of

# The database is there, and said this.
_ANSWERED = (SchemaLockedError, StatementTimeoutError, TransactionConflictError)
_DATABASE_HINT = "Is SEMBLANCE_DATABASE_URL right? `semblance up` runs a database of its own."


def tell(exc: SemblanceError | OSError) -> ExitCode:
    """Say on standard error, in one line, what went wrong; returns the exit code.

    Args:
        exc: What ended the command: an error of ours, or one of the operating system (a port that is
            taken, a file that cannot be written).
    """
    is_out_of_reach = isinstance(exc, DatabaseUnavailableError) and not isinstance(exc, _ANSWERED)
    hint = f" {_DATABASE_HINT}" if is_out_of_reach else ""
    sys.stderr.write(f"semblance: {' '.join(str(exc).split())}{hint}\n")
    return code_of(exc)
