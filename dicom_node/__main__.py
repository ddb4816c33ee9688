"""``python -m dicom_node``: the DICOM node as a process.

Says on standard output, as one JSON line, on which port it listens; SIGTERM and SIGINT end it
after the objects under way.
"""

from __future__ import annotations

import gc
import signal
import sys
import threading

import structlog

from dicom_node.acceptor.processes import NodeProcesses, end_with_parent, shared_rates
from dicom_node.acceptor.scp import Node
from service.audit.activity import ApplicationActivity
from service.config import Settings, load_settings
from service.database.pool import open_pool
from service.errors import ConfigurationError, SemblanceError
from service.exit_codes import ExitCode
from service.logs import announce_ready, configure_logging
from service.storage.local import LocalStore, open_store

_log = structlog.get_logger(__name__)

_LEFTOVER_AGE_S = 24 * 3600.0  # of a half-written object; far longer than any transfer


def main() -> int:
    """Run the node until it is told to stop.

    Returns:
        0 after a stop, 2 when a setting is wrong, 1 when it could not begin for another reason.
    """
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    try:
        settings = load_settings()
        configure_logging(settings)
        is_child = end_with_parent(stopped)
        if settings.dicom_processes > 1 and not is_child:
            _run_children(settings, stopped)
        else:
            _run(settings, stopped, reuse_port=is_child)
    except (SemblanceError, OSError) as exc:
        sys.stderr.write(f"semblance node: {exc}\n")
        return ExitCode.USAGE if isinstance(exc, ConfigurationError) else ExitCode.FAILED
    return ExitCode.DONE


def _run(settings: Settings, stopped: threading.Event, *, reuse_port: bool) -> None:
    store = open_store(settings)
    if isinstance(store, LocalStore):
        _log.info("swept", leftovers=store.sweep_incoming(_LEFTOVER_AGE_S))
    with open_pool(settings) as pool, ApplicationActivity(settings, pool, "node"):
        node = Node(settings, pool, store, reuse_port=reuse_port, rates=shared_rates())
        gc.collect()
        gc.freeze()  # modules and tables stay; to look through them again and again took a quarter of the CPU
        announce_ready("node", port=node.port, ae_title=settings.dicom_ae_title)
        stopped.wait()
        _log.info("stopping")
        node.stop()


def _run_children(settings: Settings, stopped: threading.Event) -> None:
    children = NodeProcesses(settings)
    announce_ready("node", port=children.port, ae_title=settings.dicom_ae_title)
    children.watch(stopped)
    _log.info("stopping")
    children.stop()


if __name__ == "__main__":
    sys.exit(main())
