"""The whole product running under a test: real processes, real PostgreSQL, real broker, real C-STORE."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import FileDataset
from pynetdicom import AE

from service.commands.program import PROGRAM
from service.config import Settings, load_settings
from service.database import dead_letters, instances, ledger
from service.database.pool import Pool, open_pool, transaction
from service.errors import StackError
from service.peers import Destination
from service.records import DeadLetter, Instance, InstanceState, LedgerEntry, LedgerEvent
from service.stack.stack import Stack, StackFacts, StackOptions
from service.storage.local import LocalStore
from tests.waiting import wait_until

# Impatient, so that what a test breaks is found within seconds.
_QUICK = {
    "SEMBLANCE_STALL_AFTER_S": "4",
    "SEMBLANCE_SWEEP_INTERVAL_S": "0.5",
    "SEMBLANCE_RETRY_BASE_S": "0.2",
    "SEMBLANCE_RETRY_CAP_S": "1",
    "SEMBLANCE_BREAKER_PAUSE_S": "0.5",
    "SEMBLANCE_DATABASE_TIMEOUT_S": "3",
    "SEMBLANCE_STORAGE_LOW_WATERMARK_BYTES": "0",
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True, kw_only=True)
class RunningStack:
    """A stack under test."""

    stack: Stack
    facts: StackFacts
    settings: Settings
    pool: Pool

    @property
    def store(self) -> LocalStore:
        """The instance store's directory, opened by the test too."""
        return LocalStore(Path(self.facts.storage_dir))

    def send(self, dataset: FileDataset, calling_ae_title: str = "CAMERA") -> int:
        """Send one object by C-STORE; returns the status."""
        entity = AE(ae_title=calling_ae_title)
        entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
        association = entity.associate("127.0.0.1", self.facts.dicom_port, ae_title=self.facts.dicom_ae_title)
        assert association.is_established
        try:
            return int(association.send_c_store(dataset).Status)
        finally:
            association.release()

    def instance(self, uid: str) -> Instance:
        """The instance of that UID, which must be there."""
        with transaction(self.pool) as connection:
            found = instances.by_uid(connection, uid)
        assert found is not None, f"{uid} is not in the database"
        return found

    def ledger(self, uid: str) -> list[LedgerEntry]:
        """The history of that UID."""
        with transaction(self.pool) as connection:
            return ledger.entries(connection, uid)

    def events(self, uid: str) -> list[LedgerEvent]:
        """The history of that UID, events only."""
        return [entry.event for entry in self.ledger(uid)]

    def dead_letters(self) -> list[DeadLetter]:
        """What was given up."""
        with transaction(self.pool) as connection:
            return dead_letters.all_open(connection)

    def wait_for(self, uid: str, state: InstanceState, timeout_s: float = 90) -> None:
        """Wait until an instance is in a state; a final state that is another one fails at once."""

        def arrived() -> bool:
            now = self.instance(uid).state
            if now is InstanceState.DEAD and state is not now:
                raise AssertionError(
                    "\n".join(f"{each.error}\n{each.traceback}" for each in self.dead_letters())
                )
            return now is state

        try:
            wait_until(arrived, timeout_s=timeout_s, what=f"{uid} to be {state}")
        except TimeoutError as exc:
            raise AssertionError(f"{exc}: {self.ledger(uid)}") from exc

    def signal(self, child: str, number: signal.Signals) -> int:
        """Send a signal to a child by name; returns the process id it went to."""
        pid = self.stack.supervisor.pids[child]
        os.kill(pid, number)
        return pid

    @contextmanager
    def held(self, child: str) -> Iterator[None]:
        """Stop a child from doing anything for a while."""
        self.signal(child, signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(child, signal.SIGCONT)


@contextmanager
def run_stack(
    *,
    data_dir: Path | None = None,
    destinations: Sequence[Destination] = (),
    demo_pacs: bool = True,
    broker_url: str = "",
    environment: Mapping[str, str] | None = None,
) -> Iterator[RunningStack]:
    """Run the product on a directory.

    Args:
        data_dir: None makes one and removes it. Not below pytest's own directories: sessions of pytest
            take away the right to enter them, which PostgreSQL's user needs.
        destinations: Where results go beside the demonstration's PACS.
        demo_pacs: Whether to run that one.
        broker_url: "" runs an embedded Redis.
        environment: More SEMBLANCE_* settings of the processes.
    """
    directory = data_dir or Path(tempfile.mkdtemp(prefix="semblance-stack-"))
    settings = load_settings(destinations=tuple(destinations))
    listed = json.dumps([destination.model_dump() for destination in destinations])
    options = StackOptions(
        data_dir=directory,
        demo_pacs=demo_pacs,
        broker_url=broker_url,
        environment={**_QUICK, "SEMBLANCE_DESTINATIONS": listed, **(environment or {})},
    )
    stack = Stack(options, settings, PROGRAM)
    facts = stack.start()
    faults: list[StackError] = []

    def watch() -> None:
        try:
            stack.supervisor.watch()
        except StackError as exc:
            faults.append(exc)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        of_stack = load_settings(
            database_url=facts.database_url,
            broker_url=facts.broker_url,
            storage_dir=Path(facts.storage_dir),
            destinations=tuple(destinations),
        )
        with open_pool(of_stack) as pool:
            yield RunningStack(stack=stack, facts=facts, settings=of_stack, pool=pool)
    finally:
        stack.supervisor.request_stop()
        watcher.join()
        stack.stop()
        if data_dir is None:
            shutil.rmtree(directory, ignore_errors=True)
    assert not faults, faults[0]
