"""What a request is refused with."""

from __future__ import annotations


class DicomwebError(Exception):
    """A request that is not served.

    Args:
        status: HTTP status.
        reason: For people; no patient data.
        headers: To be sent with it.
    """

    def __init__(self, status: int, reason: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = headers


def not_found(what: str) -> DicomwebError:
    """404: it is not held, or is none of the caller's business."""
    return DicomwebError(404, f"{what} is not held here")


def not_acceptable(served: str) -> DicomwebError:
    """406: nothing that is accepted can be made."""
    return DicomwebError(406, f"served here: {served}")
