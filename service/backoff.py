"""How long to wait before the next attempt."""

from __future__ import annotations

import random

from service.config import Settings


def delay_s(attempt: int, settings: Settings) -> float:
    """Exponential backoff with jitter: uniform between half of and the whole of base * 2^(attempt - 1).

    Args:
        attempt: Number of the attempt that failed, from 1.
        settings: Uses ``retry_base_s`` and ``retry_cap_s``.

    Returns:
        Seconds, at most ``retry_cap_s``.
    """
    whole = min(settings.retry_cap_s, settings.retry_base_s * 2.0 ** min(attempt - 1, 60))
    return random.uniform(whole / 2, whole)  # noqa: S311 -- spreads load, no secret
