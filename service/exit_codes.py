"""Exit codes of the ``semblance`` command; docs/cli.md explains them."""

from __future__ import annotations

from enum import IntEnum

from service.errors import (
    BrokerUnavailableError,
    ConfigurationError,
    DatabaseUnavailableError,
    UnknownMethodError,
)

_UNAVAILABLE = (DatabaseUnavailableError, BrokerUnavailableError)
_USAGE = (ConfigurationError, UnknownMethodError)


class ExitCode(IntEnum):
    """What a command's end means."""

    DONE = 0
    FAILED = 1  # part of the request failed
    USAGE = 2  # wrong arguments or settings
    REJECTED = 3  # ``score``, ``change``: at least one photograph was rejected
    UNAVAILABLE = 4  # PostgreSQL or the broker cannot be reached; try again


def code_of(exc: Exception) -> ExitCode:
    """The exit code of a command that an error ended."""
    if isinstance(exc, _UNAVAILABLE):
        return ExitCode.UNAVAILABLE
    return ExitCode.USAGE if isinstance(exc, _USAGE) else ExitCode.FAILED
