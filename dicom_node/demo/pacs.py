"""A small PACS for the demonstration: keeps what it is sent, as files. Not for patients' data.

``python -m dicom_node.demo.pacs --directory DIR [--port PORT]``
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

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


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dicom_node.demo.pacs", description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="where objects are kept")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: a free one)")
    options = parser.parse_args(arguments)
    try:
        pacs = DemoPacs(options.directory, options.port)
    except OSError as exc:
        sys.stderr.write(f"semblance demo PACS: {exc}\n")
        return 2
    stopped = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopped.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    announce_ready("demo-pacs", port=pacs.port, ae_title=AE_TITLE)
    stopped.wait()
    pacs.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
