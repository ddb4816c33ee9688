"""How long to wait before the next attempt."""

from __future__ import annotations

import random

from service.config import Settings


def full_jitter_s(attempt: int, base_s: float, cap_s: float) -> float:
    """Exponential backoff with full jitter: uniform between 0 and the whole of base * 2^(attempt - 1).

    What many deliveries to one destination wait: they come back spread over the whole time.

    Args:
        attempt: Number of the attempt that failed, from 1.
        base_s: The whole after the first attempt, in seconds.
        cap_s: The longest whole, in seconds.
    """
    return random.uniform(0.0, _whole_s(attempt, base_s, cap_s))  # noqa: S311 -- spreads load, no secret


def _whole_s(attempt: int, base_s: float, cap_s: float) -> float:
    return min(cap_s, base_s * 2.0 ** min(max(attempt, 1) - 1, 60))


def delay_s(attempt: int, settings: Settings) -> float:
    """Exponential backoff with jitter: uniform between half of and the whole of base * 2^(attempt - 1).

    Args:
        attempt: Number of the attempt that failed, from 1.
        settings: Uses ``retry_base_s`` and ``retry_cap_s``.

    Returns:
        Seconds, at most ``retry_cap_s``.
    """
    whole = _whole_s(attempt, settings.retry_base_s, settings.retry_cap_s)
    return random.uniform(whole / 2, whole)  # noqa: S311 -- spreads load, no secret
