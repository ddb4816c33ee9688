"""The DICOM node as a process.

Says on standard output, as one JSON line, on which port it listens; SIGTERM and SIGINT end it
after the objects under way.
"""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Sequence

import structlog

from dicom_node.acceptor.processes import NodeProcesses, end_with_parent, shared_rates
from dicom_node.acceptor.scp import Node
from service.audit.activity import ApplicationActivity
from service.config import Settings
from service.database.pool import open_pool
from service.logs import announce_ready, configure_logging
from service.operations.door import Facts, counting_together, operations_door
from service.operations.readiness import Check, database_check, port_check, store_check
from service.operations.standing import StoreSpace
from service.storage.local import LocalStore, open_store

_log = structlog.get_logger(__name__)

_LEFTOVER_AGE_S = 24 * 3600.0  # of a half-written object; far longer than any transfer


def serve(settings: Settings, command: Sequence[str]) -> None:
    """Run the node until it is told to stop.

    Args:
        settings: Of the process; with several ``dicom_processes`` it starts that many and watches over them.
        command: What starts such a process.

    Raises:
        StorageError: The store cannot be opened.
        StackError: A receiving process does not start, or dies again and again.
        OSError: The port cannot be bound.
    """
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    configure_logging(settings)
    is_child = end_with_parent(stopped)
    if settings.dicom_processes > 1 and not is_child:
        _run_children(settings, command, stopped)
    else:
        _run(settings, stopped, reuse_port=is_child)


def _run(settings: Settings, stopped: threading.Event, *, reuse_port: bool) -> None:
    store = open_store(settings)
    if isinstance(store, LocalStore):
        _log.info("swept", leftovers=store.sweep_incoming(_LEFTOVER_AGE_S))
    with open_pool(settings) as pool, ApplicationActivity(settings, pool, "node"):
        node = Node(settings, pool, store, reuse_port=reuse_port, rates=shared_rates())
        gc.collect()
        gc.freeze()  # modules and tables stay; to look through them again and again took a quarter of the CPU
        checks = [
            database_check(settings),
            store_check(settings),
            Check(name="listener", ask=node.require_listening),
        ]
        own = settings.model_copy(update={"operations_port": 0}) if reuse_port else settings
        with operations_door(own, _facts(settings, checks)):
            announce_ready("node", port=node.port, ae_title=settings.dicom_ae_title)
            stopped.wait()
            _log.info("stopping")
            node.stop()


def _run_children(settings: Settings, command: Sequence[str], stopped: threading.Event) -> None:
    with counting_together(settings), NodeProcesses(settings, command, stopped) as children:
        listening = port_check("listener", settings.dicom_host, children.port)
        checks = [database_check(settings), store_check(settings), listening]
        with operations_door(settings, _facts(settings, checks)):
            announce_ready("node", port=children.port, ae_title=settings.dicom_ae_title)
            children.watch()
            _log.info("stopping")


def _facts(settings: Settings, checks: Sequence[Check]) -> Facts:
    """What the node's door tells."""
    return Facts(process="node", checks=checks, collectors=[StoreSpace(settings.storage_dir)])
