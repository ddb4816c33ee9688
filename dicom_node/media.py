"""Part 10 files from media into the store, and studies out to media.

A file that comes in goes the way of C-STORE: checked,
durable, in the ledger. Each study that crosses the border gives an audit message (DICOM PS3.15 sections
A.5.3.4 and A.5.3.5).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

from dicom_node.encoding.statuses import StoreStatus
from dicom_node.intake.group_commit import GroupCommit
from dicom_node.intake.ingest import Ingest
from dicom_node.intake.journal import Journal
from dicom_node.intake.stow import StowReceiver
from reporting.holdings.database import holdings
from reporting.holdings.database.holding_records import HeldInstance
from reporting.holdings.index import catch_up
from service.audit import events, trail
from service.audit.codes import EventId, MediaType, Role
from service.audit.from_ledger import source_of
from service.audit.message import Participant, ParticipantObject, SopClassCount
from service.config import Settings
from service.database import instances
from service.database.pool import Pool, transaction
from service.errors import DatabaseUnavailableError, RecordNotFoundError, StorageError
from service.storage.local import InstanceStore

_CHUNK_BYTES = 1 << 18
_PREFIX_BYTES = 132
_CATCH_UP_S = 60.0  # longest an export waits for the index
_NAMED_INSTANCES = 100  # in one message, PS3.15 section A.6


@dataclass(frozen=True, kw_only=True)
class Medium:
    """What files come from or go to, and who has them do so."""

    kind: MediaType
    name: str  # its label or URI
    user: str


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What became of one file."""

    path: Path
    sop_instance_uid: str  # "" when it is no instance
    error: str  # "" when it is in the store


def import_files(
    settings: Settings, pool: Pool, store: InstanceStore, paths: Sequence[Path], medium: Medium
) -> Iterator[Taken]:
    """Take in Part 10 files; folders are gone through, and what is no DICOM file in them is passed over.

    A file that was named and is none, and a folder without one, are told as errors.

    The audit message of what came in is kept at the end, however that comes about.

    Raises:
        DatabaseUnavailableError: The message could not be kept. What came in is in the ledger.
    """
    sources = ((path, None) for path in _dicom_files(paths))
    for path in paths:
        yield from _without_any(path)
    yield from _import(settings, pool, store, sources, medium)


def import_made(
    settings: Settings,
    pool: Pool,
    store: InstanceStore,
    made: Iterable[tuple[Path, bytes]],
    medium: Medium,
) -> Iterator[Taken]:
    """Take in objects that were made of files; else as ``import_files``.

    Args:
        settings: Of the command.
        pool: To the database.
        store: Where instances are kept.
        made: Each file with the Part 10 object made of it.
        medium: Where the files come from.

    Raises:
        DatabaseUnavailableError: The message could not be kept. What came in is in the ledger.
    """
    yield from _import(settings, pool, store, made, medium)


def _import(
    settings: Settings,
    pool: Pool,
    store: InstanceStore,
    sources: Iterable[tuple[Path, bytes | None]],
    medium: Medium,
) -> Iterator[Taken]:
    """Take in Part 10 objects: the bytes given, or those of the file."""
    commit, journal = GroupCommit(settings), Journal(pool)
    receiver = StowReceiver(
        settings,
        Ingest(
            settings=settings,
            store=store,
            pool=pool,
            commit=commit,
            journal=journal,
            most_inflated_bytes=settings.dicom_max_inflated_bytes,
        ),
    )
    journal.start()
    taken: list[str] = []
    try:
        for path, content in sources:
            found = _take(receiver, path, medium, content)
            if not found.error:
                taken.append(found.sop_instance_uid)
            yield found
    finally:
        journal.stop()
        commit.close()
        _record_import(settings, pool, taken, medium)


def _dicom_files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        for each in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if each.is_file() and each.name != "DICOMDIR" and _may_be_dicom(each):
                yield each


def _without_any(path: Path) -> Iterator[Taken]:
    """Say so of a path that holds nothing to be taken in."""
    if next(_dicom_files([path]), None) is None:
        what = "holds no DICOM file" if path.is_dir() else "is no DICOM file"
        yield Taken(path=path, sop_instance_uid="", error=what)


def _may_be_dicom(path: Path) -> bool:
    """Whether it has the prefix of PS3.10 section 7.1. Also if it cannot be read, so that this is said."""
    try:
        with path.open("rb") as source:
            return source.read(_PREFIX_BYTES)[-4:] == b"DICM"
    except OSError:
        return True


def _take(receiver: StowReceiver, path: Path, medium: Medium, content: bytes | None) -> Taken:
    intake = receiver.begin(medium.user, "", "")
    try:
        with path.open("rb") if content is None else BytesIO(content) as source:
            while chunk := source.read(_CHUNK_BYTES):
                intake.write(chunk)
    except OSError as exc:
        intake.abandon()
        return Taken(path=path, sop_instance_uid="", error=f"cannot be read: {exc.strerror}")
    stored = intake.finish()
    is_kept = stored.status == StoreStatus.SUCCESS
    error = "" if is_kept else f"0x{stored.status:04X} {stored.comment}"
    return Taken(path=path, sop_instance_uid=stored.sop_instance_uid, error=error)


def _record_import(settings: Settings, pool: Pool, uids: Sequence[str], medium: Medium) -> None:
    with transaction(pool) as connection:
        studies: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
        for uid in dict.fromkeys(uids):
            known = instances.by_uid(connection, uid)
            if known is not None:
                of = (known.study_instance_uid, known.patient_id, known.issuer_of_patient_id)
                studies.setdefault(of, []).append((known.sop_class_uid, uid))
        trail.record(
            connection,
            (
                events.message(
                    EventId.IMPORT,
                    datetime.now(UTC),
                    source_of(settings),
                    objects=_objects(of, chunk),
                    participants=(_user(medium), events.media(medium.name, medium.kind, Role.SOURCE_MEDIA)),
                )
                for of, named in studies.items()
                for chunk in _chunks(named)
            ),
        )


def export_study(
    settings: Settings,
    pool: Pool,
    store: InstanceStore,
    study_instance_uid: str,
    *,
    directory: Path,
    medium: Medium,
) -> list[Path]:
    """Write the photographs and results of a study to a directory, as they are stored.

    The audit message is kept before the first byte leaves.

    Returns:
        The files, named by SOP Instance UID.

    Raises:
        RecordNotFoundError: No such study is held.
        StorageError: An instance's bytes are wrong, or the directory does not take a file, as one that is
            there already. What was written before stays.
        DatabaseUnavailableError: Nothing was written.
    """
    if not catch_up(pool, store, _CATCH_UP_S):
        raise DatabaseUnavailableError("the index is behind what was received; try again")
    with transaction(pool) as connection:
        found = holdings.of_study(connection, study_instance_uid, "")
        if not found:
            raise RecordNotFoundError(f"no study {study_instance_uid} is held here")
        photographs = instances.of_study(connection, study_instance_uid)
        patient = (
            (photographs[0].patient_id, photographs[0].issuer_of_patient_id) if photographs else ("", "")
        )
        trail.record(
            connection,
            (
                events.message(
                    EventId.EXPORT,
                    datetime.now(UTC),
                    source_of(settings),
                    objects=_objects((study_instance_uid, *patient), chunk),
                    participants=(
                        _user(medium),
                        events.media(medium.name, medium.kind, Role.DESTINATION_MEDIA),
                    ),
                )
                for chunk in _chunks([(each.sop_class_uid, each.sop_instance_uid) for each in found])
            ),
        )
    return [_write(store, each, directory) for each in found]


def _write(store: InstanceStore, instance: HeldInstance, directory: Path) -> Path:
    store.verify(instance.sha256)
    path = directory / f"{instance.sop_instance_uid}.dcm"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with store.open(instance.sha256) as source, path.open("xb") as to:
            while chunk := source.read(_CHUNK_BYTES):
                to.write(chunk)
    except OSError as exc:
        raise StorageError(f"{path}: {exc.strerror}") from exc
    return path


def _user(medium: Medium) -> Participant:
    return Participant(user_id=medium.user, is_requestor=True)


def _chunks(named: Sequence[tuple[str, str]]) -> Iterator[Sequence[tuple[str, str]]]:
    for start in range(0, len(named), _NAMED_INSTANCES):
        yield named[start : start + _NAMED_INSTANCES]


def _objects(
    of: tuple[str, str, str], named: Sequence[tuple[str, str]]
) -> tuple[ParticipantObject, ParticipantObject]:
    """Study and patient; ``named`` are SOP Class and Instance UIDs."""
    study_instance_uid, patient_id, issuer = of
    by_class: dict[str, list[str]] = {}
    for sop_class_uid, sop_instance_uid in named:
        by_class.setdefault(sop_class_uid, []).append(sop_instance_uid)
    counts = [
        SopClassCount(sop_class_uid=each, number_of_instances=len(uids), sop_instance_uids=tuple(uids))
        for each, uids in by_class.items()
    ]
    return events.study(study_instance_uid, counts), events.patient(patient_id, issuer)
