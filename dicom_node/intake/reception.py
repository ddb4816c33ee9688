"""What the upper layer hands the bytes of a C-STORE to."""

from __future__ import annotations

from typing import Protocol

from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from dicom_node.encoding import command


class Reception(Protocol):
    """One C-STORE data set being received."""

    def write(self, fragment: memoryview) -> None:
        """Take the next fragment; must not raise for what the peer did wrong."""

    def finish(self) -> tuple[int, str]:
        """Take the end of the data set; answer the status and an error comment."""

    def abandon(self, reason: str) -> None:
        """The association ended first: keep nothing."""


class ReceptionFactory(Protocol):
    """Begins a Reception for each C-STORE request."""

    def __call__(
        self, association: Association, context: PresentationContext | None, request: command.StoreCommand
    ) -> Reception:
        """Begin; ``context`` is None when the presentation context was not accepted."""
