"""Photographs made to do harm, through the whole stack: each is a result, no process ends, none grows."""

from __future__ import annotations

import struct
import zlib

import httpx
import psutil
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
)
from pynetdicom.dsutils import encode

from service.records import InstanceState, LedgerEvent
from tests.acceptance.bombs import BOMBS
from tests.dicom_objects import associate, photograph, store_pdus
from tests.stack import RunningStack
from tests.waiting import wait_until

GROWTH = 1.5  # of a process's memory, at most


def memory(stack: RunningStack) -> dict[int, int]:
    """Resident memory of every process of the stack, by its id."""
    return {pid: psutil.Process(pid).memory_info().rss for pid in stack.facts.pids.values()}


@pytest.mark.timeout(900)
def test_no_bomb_ends_or_fills_a_process(stack: RunningStack) -> None:
    usual = photograph()
    assert stack.send(usual) == 0
    stack.wait_for(usual.SOPInstanceUID, InstanceState.DELIVERED)
    before = memory(stack)
    web = stack.facts.fhir_url.removesuffix("/fhir") + "/dicom-web"
    for make in BOMBS.values():
        sent = make()
        assert stack.send(sent) == 0
        stack.wait_for(sent.SOPInstanceUID, InstanceState.DELIVERED)
        assert LedgerEvent.REJECTED in stack.events(sent.SOPInstanceUID)
        place = f"{web}/studies/{sent.StudyInstanceUID}/series/{sent.SeriesInstanceUID}"
        url = f"{place}/instances/{sent.SOPInstanceUID}/rendered"
        assert httpx.get(url, headers={"Accept": "image/png"}, timeout=60).status_code in (200, 406)
    assert stack.dead_letters() == []
    after = memory(stack)
    assert after.keys() == before.keys(), "a process was ended"
    assert {pid: size for pid, size in after.items() if size > GROWTH * before[pid]} == {}


@pytest.mark.timeout(900)
def test_a_data_set_that_inflates_to_a_gigabyte_is_refused(stack: RunningStack) -> None:
    ds = photograph(transfer_syntax=ExplicitVRLittleEndian)
    del ds.PixelData
    plain = encode(ds, False, True) or b""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, 1 << 30)
    pieces = [packer.compress(plain), packer.compress(head)]
    pieces += [packer.compress(bytes(1 << 20)) for _ in range(1 << 10)]
    bomb = b"".join(pieces) + packer.flush()
    assert len(bomb) < 2 << 20
    before = memory(stack)
    association = associate(
        stack.facts.dicom_port, (ds.SOPClassUID, DeflatedExplicitVRLittleEndian), called="SEMBLANCE"
    )
    assert association.is_established
    sock = association.dul.socket
    assert sock is not None
    association._reactor_checkpoint.clear()  # the answer is for us, not for the association's thread
    wait_until(lambda: association._is_paused, timeout_s=20, what="the association's thread to pause")
    association.dimse_timeout = 120
    for pdu in store_pdus(ds, bomb):
        sock.send(pdu)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    association.abort()
    assert answer is not None
    assert answer.Status not in (0, None)
    after = memory(stack)
    assert {pid: size for pid, size in after.items() if size > GROWTH * before[pid]} == {}
