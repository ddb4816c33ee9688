"""The method of a score in short: two scores compare only within one phase."""

from __future__ import annotations

import hashlib

from service.records import MethodIdentity


def phase_of(method: MethodIdentity) -> str:
    """Digest of method, weights and settings; of the calibration it takes no notice.

    A calibration changes what a score is called, not the score.
    """
    parts = (
        method.name,
        method.version,
        method.normaliser,
        method.comparator,
        method.weights_sha256,
        method.config_sha256,
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def named(method: MethodIdentity) -> str:
    """Name and version, for people."""
    return f"{method.name} {method.version}"
