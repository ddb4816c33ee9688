"""Finds results by earlier calibrations and has them rated anew, a few at a time; knows no science."""

from __future__ import annotations

from datetime import timedelta

from service.config import Settings
from service.database import outbox, reratings
from service.database.pool import Pool, transaction
from service.steps import RERATE

_LOOKED_AT = 5_000  # photographs a transaction, so that it is short
_UNDER_WAY = 50  # results that are rated anew at a time: new photographs come first


def ask_to_rerate(pool: Pool, settings: Settings) -> None:
    """Look for results to be rated anew, and ask for those that are due; done before each sweep.

    Args:
        pool: Of the database.
        settings: Uses ``stall_after_s``: what was asked for longer ago counts as lost.
    """
    with transaction(pool) as connection:
        reratings.look(connection, _LOOKED_AT)
    with transaction(pool) as connection:
        for subject in reratings.due(connection, timedelta(seconds=settings.stall_after_s), _UNDER_WAY):
            outbox.put(connection, RERATE.task, RERATE.queue, subject)
