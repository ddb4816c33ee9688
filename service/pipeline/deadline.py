"""A limit to the time a step may take: what hangs frees its place and ends as a failed attempt.

A step runs on a thread of its own while the worker's thread waits. Python can end no thread: one that hangs
is left behind, and whatever it still would write is refused (``still_wanted``), so that it cannot change a
photograph that was given up or that somebody else has taken up.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from service.errors import StepTimeoutError


@dataclass(slots=True)
class _Run:
    """One run of one step."""

    error: BaseException | None = None
    ended: threading.Event = field(default_factory=threading.Event)
    is_given_up: bool = False


_CURRENT: contextvars.ContextVar[_Run | None] = contextvars.ContextVar("semblance_run", default=None)


def within(limit_s: float, work: Callable[[], None]) -> None:
    """Do work on a thread of its own, for so long.

    Args:
        limit_s: Seconds; a run that takes longer is given up.
        work: Raises what it fails with.

    Raises:
        StepTimeoutError: It took longer.
    """
    run = _Run()
    context = contextvars.copy_context()

    def body() -> None:
        _CURRENT.set(run)
        try:
            work()
        except BaseException as exc:  # noqa: BLE001 -- raised again by the thread that waits
            run.error = exc
        finally:
            run.ended.set()

    threading.Thread(target=context.run, args=(body,), name="step", daemon=True).start()
    if not run.ended.wait(limit_s):
        run.is_given_up = True
        raise StepTimeoutError(f"it took longer than {limit_s:g} s")
    if run.error is not None:
        raise run.error


def still_wanted() -> None:
    """To be called before a step saves what it made.

    Raises:
        StepTimeoutError: The run this thread belongs to was given up.
    """
    run = _CURRENT.get()
    if run is not None and run.is_given_up:
        raise StepTimeoutError("the run was given up; what it made is not saved")
