"""What a process counts while it works, for Prometheus; `docs/operations.md` lists it all.

No label holds anything of a patient, and each has few values: a calling AE title that comes after the
first `MOST_SENDERS` is counted as ``other``, so that a stranger cannot fill the memory with names.
"""

from __future__ import annotations

import threading
from typing import Final

from prometheus_client import Counter, Histogram, disable_created_metrics

MOST_SENDERS: Final = 200
OTHER: Final = "other"

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each, of when it began

_STEP_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_AGE_BUCKETS_S = (0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 14_400, 86_400)
_REQUEST_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

RECEIVED: Final = Counter(
    "semblance_received_objects",
    "Objects that senders offered, by what they were told (DIMSE status, hexadecimal).",
    ("sender", "status"),
)
REFUSED_ASSOCIATIONS: Final = Counter(
    "semblance_refused_associations", "Associations and connections that the node refused."
)
STEP_SECONDS: Final = Histogram(
    "semblance_step_seconds",
    "Time of one attempt at a step of the pipeline, by how it ended.",
    ("step", "outcome"),
    buckets=_STEP_BUCKETS_S,
)
APPRAISED_AFTER_SECONDS: Final = Histogram(
    "semblance_appraised_after_seconds",
    "Time from the receipt of a photograph to its appraisal.",
    buckets=_AGE_BUCKETS_S,
)
BATCH_FACES: Final = Histogram(
    "semblance_batch_faces", "Faces that shared one forward pass.", buckets=_BATCH_BUCKETS
)
REQUEST_SECONDS: Final = Histogram(
    "semblance_http_request_seconds",
    "Time to the first byte of an answer of the API, by door, method and class of its status.",
    ("door", "method", "status"),
    buckets=_REQUEST_BUCKETS_S,
)

_DOORS = frozenset({"fhir", "dicom-web", "healthz", "readyz", "ledger"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_senders: set[str] = set()
_lock = threading.Lock()


def sender_label(ae_title: str) -> str:
    """The label of a sender: its AE title, or ``other`` when there are too many already."""
    with _lock:
        if ae_title in _senders:
            return ae_title
        if len(_senders) >= MOST_SENDERS:
            return OTHER
        _senders.add(ae_title)
        return ae_title


def count_received(ae_title: str, status: int) -> None:
    """Count an object that was offered, by what its sender was told.

    Args:
        ae_title: Calling AE title, printable.
        status: DIMSE status of the answer (PS3.7 annex C).
    """
    RECEIVED.labels(sender=sender_label(ae_title), status=f"0x{status:04X}").inc()


def count_request(path: str, method: str, status: int, seconds: float) -> None:
    """Count a request to the API.

    Args:
        path: Of its URL; only the first part is looked at.
        method: Of HTTP.
        status: Of the answer.
        seconds: Until the answer began.
    """
    door = path[1:].partition("/")[0]
    REQUEST_SECONDS.labels(
        door=door if door in _DOORS else OTHER,
        method=method if method in _METHODS else OTHER,
        status=f"{status // 100}xx",
    ).observe(seconds)
