"""What senders do with more than one object: notes that reject photographs, two patients in one study.

Told by ``bench.senders`` between its damaged files. Each story says what queries must find afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom.dsutils import encode

from dicom_node.acceptor.scp import Node
from reporting.fhir.corrections.lifting import lift
from service.config import Settings
from service.database.pool import Pool, transaction
from tests.dicom_objects import photograph, send_raw
from tests.integration.dicom_node.rejecting import note

_SUCCESS, _REJECTED = 0x0000, 0xC003


@dataclass(frozen=True, kw_only=True)
class Expected:
    """A query and what it must find."""

    query: str  # of QIDO-RS at the level of instances
    found: frozenset[str]  # SOP Instance UIDs


@dataclass(frozen=True, kw_only=True)
class Told:
    """What came of one story."""

    name: str
    statuses: tuple[int | None, ...]  # of everything that was sent, in its order
    expected: tuple[Expected, ...]
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where stories are told."""

    node: Node
    settings: Settings
    pool: Pool

    def send(self, ds: Dataset, data_set: bytes | None = None) -> int | None:
        """Send one object in explicit VR; answers its status."""
        return send_raw(self.node.port, ds, data_set=data_set or encode(ds, False, True))


def tell(stage: Stage, number: int, seed: int) -> Told:
    """Tell one of the stories; the same number and seed, the same story."""
    rng = np.random.default_rng((seed, number, 1))
    return _STORIES[int(rng.integers(len(_STORIES)))](stage, number, rng)


def _clean(number: int, patient_id: str, study: str | None = None) -> Dataset:
    ds = photograph(transfer_syntax=ExplicitVRLittleEndian, size=(24, 32), seed=number, patient_id=patient_id)
    ds.StudyInstanceUID = study or ds.StudyInstanceUID
    return ds


def _found(ds: Dataset, *, is_found: bool) -> Expected:
    uid = str(ds.SOPInstanceUID)
    return Expected(query=f"SOPInstanceUID={uid}", found=frozenset([uid] if is_found else []))


def _wrong(what: str, statuses: tuple[int | None, ...], wanted: tuple[int, ...]) -> tuple[str, ...]:
    return () if statuses == wanted else (f"{what}: {statuses}, not {wanted}",)


def _rejected(stage: Stage, number: int, _: np.random.Generator) -> Told:
    """A photograph, the note that takes it back, and the photograph again."""
    ds = _clean(number, "P1")
    statuses = tuple(stage.send(each) for each in (ds, note(ds), ds))
    faults = _wrong("rejected", statuses, (_SUCCESS, _SUCCESS, _REJECTED))
    return Told(name="rejected", statuses=statuses, expected=(_found(ds, is_found=False),), faults=faults)


def _rejected_early(stage: Stage, number: int, _: np.random.Generator) -> Told:
    """A note about what never came, then the photograph of that patient and one of somebody else."""
    mine, theirs = _clean(number, "P1"), _clean(number + 1, "P2")
    statuses = tuple(stage.send(each) for each in (note(mine), note(theirs, patient_id="P1"), mine, theirs))
    faults = _wrong("early", statuses, (_SUCCESS, _SUCCESS, _REJECTED, _SUCCESS))
    expected = _found(mine, is_found=False), _found(theirs, is_found=True)
    return Told(name="early", statuses=statuses, expected=expected, faults=faults)


def _lifted(stage: Stage, number: int, _: np.random.Generator) -> Told:
    """A note that was a mistake, and is lifted; the photograph may be sent again."""
    ds = _clean(number, "P1")
    rejecting = note(ds)
    before = stage.send(ds), stage.send(rejecting)
    with transaction(stage.pool) as connection:
        done = lift(
            connection, rejecting.SOPInstanceUID, who="bench", reason="a mistake", settings=stage.settings
        )
    statuses = (*before, stage.send(ds))
    faults = _wrong("lifted", statuses, (_SUCCESS, _SUCCESS, _SUCCESS))
    if done.restored != (str(ds.SOPInstanceUID),):
        faults = (*faults, f"lifted: {done}")
    return Told(name="lifted", statuses=statuses, expected=(_found(ds, is_found=True),), faults=faults)


def _malformed(stage: Stage, number: int, rng: np.random.Generator) -> Told:
    """A note with bytes changed after its UIDs: it is followed as it reads, or refused as a whole."""
    ds = _clean(number, "P1")
    rejecting = note(ds)
    whole = encode(rejecting, False, True) or b""
    begin = whole.index(str(rejecting.SOPInstanceUID).encode()) + 64
    damaged = bytearray(whole)
    for _ in range(int(rng.integers(1, 6))):
        damaged[int(rng.integers(begin, len(whole)))] = int(rng.integers(256))
    if rng.random() < 0.3:
        damaged = damaged[: int(rng.integers(begin, len(whole)))]
    first = stage.send(ds)
    statuses = first, stage.send(rejecting, bytes(damaged)), stage.send(ds)
    is_back = statuses[2] == _REJECTED
    faults: tuple[str, ...] = ()
    if first != _SUCCESS or statuses[1] is None or (is_back and statuses[1] != _SUCCESS):
        faults = (f"malformed: {statuses}",)
    return Told(
        name="malformed", statuses=statuses, expected=(_found(ds, is_found=not is_back),), faults=faults
    )


def _two_patients(stage: Stage, number: int, rng: np.random.Generator) -> Told:
    """Two patients in one study, one of them with an issuer, or with no number at all."""
    study = str(generate_uid())
    numbers = f"M{number}a", ("" if rng.random() < 0.2 else f"M{number}b")
    mine, theirs = _clean(number, numbers[0], study), _clean(number + 1, numbers[1], study)
    if rng.random() < 0.3:
        theirs.IssuerOfPatientID = "HOSPITAL-A"
    statuses = stage.send(mine), stage.send(theirs)
    uids = str(mine.SOPInstanceUID), str(theirs.SOPInstanceUID)
    expected = [
        Expected(query=f"StudyInstanceUID={study}&PatientID={patient}", found=frozenset([uid]))
        for patient, uid in zip(numbers, uids, strict=True)
        if patient
    ]
    expected.append(Expected(query=f"StudyInstanceUID={study}", found=frozenset(uids)))
    faults = _wrong("two patients", statuses, (_SUCCESS, _SUCCESS))
    return Told(name="two patients", statuses=statuses, expected=tuple(expected), faults=faults)


_STORIES: tuple[Callable[[Stage, int, np.random.Generator], Told], ...] = (
    _rejected,
    _rejected_early,
    _lifted,
    _malformed,
    _malformed,
    _two_patients,
)
