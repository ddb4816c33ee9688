"""What a person reads, and the exit code, when a command or a process ends in an error."""

from __future__ import annotations

import sys

from service.errors import DatabaseUnavailableError, SemblanceError
from service.exit_codes import ExitCode, code_of

_DATABASE_HINT = "Is SEMBLANCE_DATABASE_URL right? `semblance up` runs a database of its own."


def tell(exc: SemblanceError | OSError) -> ExitCode:
    """Say on standard error what went wrong; returns the exit code.

    Args:
        exc: What ended the command: an error of ours, or one of the operating system (a port that is
            taken, a file that cannot be written).
    """
    sys.stderr.write(f"semblance: {exc}\n")
    if isinstance(exc, DatabaseUnavailableError):
        sys.stderr.write(f"{_DATABASE_HINT}\n")
    return code_of(exc)
