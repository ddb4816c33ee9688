"""The node under libfaketime, which refuses the sleep until a set time that ``time.sleep`` asks for."""

from __future__ import annotations

import select
import sys
import time


def sleep(seconds: float) -> None:
    """Wait so long, by a call that libfaketime passes on."""
    select.select([], [], [], seconds)


if __name__ == "__main__":
    time.sleep = sleep  # type: ignore[assignment]
    from service.commands.main import main

    sys.argv = ["semblance", "node"]
    main()
