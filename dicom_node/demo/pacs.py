"""A small PACS for the demonstration: keeps what it is sent, as files. Not for patients' data.

``python -m dicom_node.demo.pacs --directory DIR [--port PORT]``
"""

from __future__ import annotations

import signal
import threading
from pathlib import Path

from pydicom.uid import RE_VALID_UID
from pynetdicom import (
    AE,
    ALL_TRANSFER_SYNTAXES,
    AllStoragePresentationContexts,
    VerificationPresentationContexts,
    evt,
)
from pynetdicom.events import Event

from service.logs import announce_ready
from service.storage.local import LocalStore, StoredObject

AE_TITLE = "DEMOPACS"
_SUCCESS, _CANNOT_UNDERSTAND, _OUT_OF_RESOURCES = 0x0000, 0xC000, 0xA700


class DemoPacs:
    """Listens, and keeps every object as ``<study UID>/<SOP Instance UID>.dcm``."""

    def __init__(self, directory: Path, port: int = 0) -> None:
        """Begin to listen.

        Args:
            directory: Where files go.
            port: Of the loopback address; 0 takes a free one.

        Raises:
            OSError: The port is taken.
        """
        self._directory = directory
        self._incoming = LocalStore(directory / "objects")
        entity = AE(ae_title=AE_TITLE)
        entity.supported_contexts = VerificationPresentationContexts
        for context in AllStoragePresentationContexts:
            if context.abstract_syntax is not None:
                entity.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
        server = entity.start_server(
            ("127.0.0.1", port),
            block=False,
            evt_handlers=[(evt.EVT_C_STORE, self._store), (evt.EVT_C_ECHO, _echo)],
        )
        if server is None:
            raise OSError("the server did not start")
        self._server = server

    @property
    def port(self) -> int:
        """The port listened on."""
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Listen no more."""
        self._server.shutdown()

    def _store(self, event: Event) -> int:
        dataset = event.dataset
        uids = [str(dataset.get(name, "")) for name in ("StudyInstanceUID", "SOPInstanceUID")]
        if not all(RE_VALID_UID.fullmatch(uid) and len(uid) <= 64 for uid in uids):
            return _CANNOT_UNDERSTAND
        try:
            kept = self._incoming.put(event.encoded_dataset())
            self._name(kept, *uids)
        except OSError:
            return _OUT_OF_RESOURCES
        return _SUCCESS

    def _name(self, kept: StoredObject, study_uid: str, sop_instance_uid: str) -> None:
        """Give the kept bytes the name people look for."""
        folder = self._directory / study_uid
        folder.mkdir(parents=True, exist_ok=True)
        link = folder / f".{sop_instance_uid}.new"
        link.unlink(missing_ok=True)
        link.hardlink_to(self._incoming.path_of(kept.sha256))
        link.replace(folder / f"{sop_instance_uid}.dcm")


def _echo(_event: Event) -> int:
    return _SUCCESS


def serve(directory: Path, port: int) -> None:
    """Keep what is sent until SIGTERM or SIGINT.

    Args:
        directory: Where objects are kept.
        port: On 127.0.0.1; 0: a free one.

    Raises:
        OSError: The port cannot be bound.
    """
    pacs = DemoPacs(directory, port)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    announce_ready("demo-pacs", port=pacs.port, ae_title=AE_TITLE)
    stopped.wait()
    pacs.stop()
