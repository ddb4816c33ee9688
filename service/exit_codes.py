"""Exit codes of the ``semblance`` command; docs/cli.md explains them."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's end means."""

    DONE = 0
    FAILED = 1  # ran, but not everything asked for came about
    USAGE = 2  # wrong arguments or settings
    REJECTED = 3  # ``score``: at least one photograph was rejected
    UNAVAILABLE = 4  # PostgreSQL or the broker cannot be reached; try again
