"""``python -m dicom_node``: the DICOM node as a process.

Says on standard output, as one JSON line, on which port it listens; SIGTERM and SIGINT end it
after the objects under way.
"""

from __future__ import annotations

import signal
import sys
import threading

import structlog

from dicom_node.scp import Node
from service.config import load_settings
from service.database.pool import open_pool
from service.errors import SemblanceError
from service.logs import announce_ready, configure_logging
from service.storage import open_store

_log = structlog.get_logger(__name__)


def main() -> int:
    """Run the node until it is told to stop.

    Returns:
        0 after a stop, 1 when it could not begin.
    """
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    try:
        settings = load_settings()
        configure_logging(settings)
        store = open_store(settings)
        with open_pool(settings) as pool:
            node = Node(settings, pool, store)
            announce_ready("node", port=node.port, ae_title=settings.dicom_ae_title)
            stopped.wait()
            _log.info("stopping")
            node.stop()
    except (SemblanceError, OSError) as exc:
        sys.stderr.write(f"dicom_node: {exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
