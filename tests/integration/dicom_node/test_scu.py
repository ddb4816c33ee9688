"""Sending results to destinations that take, remark, refuse, hang up or are not there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO

import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE, evt
from pynetdicom.events import Event

from dicom_node.scu import send
from service.config import Destination, Settings
from service.errors import DestinationRefusedError, DestinationUnreachableError, ResultError
from tests.dicom_objects import photograph

StartPacs = Callable[..., Destination]


@pytest.fixture
def pacs() -> Iterator[StartPacs]:
    """Starts a destination with a handler of the test's own."""
    servers = []

    def start(
        handler: Callable[[Event], int | Dataset],
        syntaxes: tuple[str, ...] = (ExplicitVRLittleEndian,),
        sop_class: str = SecondaryCaptureImageStorage,
    ) -> Destination:
        ae = AE(ae_title="PACS")
        ae.require_called_aet = True
        ae.add_supported_context(sop_class, list(syntaxes))
        servers.append(
            ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, handler)])
        )
        return Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=servers[-1].server_address[1])

    yield start
    for server in servers:
        server.shutdown()


@pytest.fixture
def quick(settings: Settings) -> Settings:
    return settings.model_copy(update={"delivery_timeout_s": 10.0})


def part10(ds: Dataset) -> bytes:
    buffer = BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def result(transfer_syntax: str = ExplicitVRLittleEndian) -> Dataset:
    return photograph(sop_class=SecondaryCaptureImageStorage, transfer_syntax=transfer_syntax)


def test_success(pacs: StartPacs, quick: Settings) -> None:
    received: list[bytes] = []

    def handler(event: Event) -> int:
        received.append(event.encoded_dataset())
        return 0x0000

    content = part10(ds := result())
    sent = send(content, pacs(handler), quick)
    assert (sent.status, sent.is_warning) == (0x0000, False)
    assert dcmread(BytesIO(received[0])) == ds


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007])
def test_a_warning_is_a_success_with_a_remark(pacs: StartPacs, quick: Settings, status: int) -> None:
    sent = send(part10(result()), pacs(lambda _: status), quick)
    assert (sent.status, sent.is_warning) == (status, True)


@pytest.mark.parametrize("status", [0xA700, 0xA900, 0xC000, 0x0122, 0x0124, 0x0110])
def test_a_failure_status_is_refused(pacs: StartPacs, quick: Settings, status: int) -> None:
    with pytest.raises(DestinationRefusedError, match=f"0x{status:04X}"):
        send(part10(result()), pacs(lambda _: status), quick)


def test_nobody_listens(quick: Settings, free_port: Callable[[], int]) -> None:
    nowhere = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=free_port())
    with pytest.raises(DestinationUnreachableError):
        send(part10(result()), nowhere, quick)


def test_wrong_called_ae_title(pacs: StartPacs, quick: Settings) -> None:
    wrong = pacs(lambda _: 0).model_copy(update={"ae_title": "OTHER"})
    with pytest.raises(DestinationUnreachableError, match="rejected"):
        send(part10(result()), wrong, quick)


def test_sop_class_not_accepted(pacs: StartPacs, quick: Settings) -> None:
    with pytest.raises(DestinationRefusedError, match="SOP class"):
        send(part10(result()), pacs(lambda _: 0, sop_class=CTImageStorage), quick)


def test_association_that_ends_before_the_answer(pacs: StartPacs, quick: Settings) -> None:
    def hang_up(event: Event) -> int:
        event.assoc.abort()
        return 0x0000

    with pytest.raises(DestinationUnreachableError):
        send(part10(result()), pacs(hang_up), quick)


def test_decompressed_only_for_who_cannot_take_it_compressed(pacs: StartPacs, quick: Settings) -> None:
    received: list[Dataset] = []

    def handler(event: Event) -> int:
        received.append(dcmread(BytesIO(event.encoded_dataset())))
        return 0x0000

    content = part10(ds := result(JPEGBaseline8Bit))
    as_is = send(content, pacs(handler, (JPEGBaseline8Bit, ImplicitVRLittleEndian)), quick)
    assert as_is.transfer_syntax_uid == JPEGBaseline8Bit
    plain = send(content, pacs(handler, (ImplicitVRLittleEndian,)), quick)
    assert plain.transfer_syntax_uid == ImplicitVRLittleEndian
    assert received[1].SOPInstanceUID == ds.SOPInstanceUID
    assert (received[1].pixel_array == received[0].pixel_array).all()


def test_what_is_no_dicom_object(pacs: StartPacs, quick: Settings) -> None:
    with pytest.raises(ResultError):
        send(b"no DICOM", pacs(lambda _: 0), quick)
