"""Sending results to destinations that take, remark, refuse, hang up or are not there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from dicom_node.delivery.scu import send, verify
from service.config import Settings
from service.errors import (
    DestinationBusyError,
    DestinationRefusedError,
    DestinationUnreachableError,
    ResultError,
    ResultNotAcceptedError,
)
from service.peers import Destination
from tests.dicom_objects import photograph
from tests.jpeg_files import jpeg
from tests.orthanc import Orthanc
from tests.part10 import part10

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


def result(transfer_syntax: str = ExplicitVRLittleEndian) -> Dataset:
    return photograph(sop_class=SecondaryCaptureImageStorage, transfer_syntax=transfer_syntax)


def test_success(pacs: StartPacs, quick: Settings) -> None:
    received: list[bytes] = []

    def handler(event: Event) -> int:
        received.append(event.encoded_dataset())
        return 0x0000

    content = part10(ds := result())
    sent = send(content, pacs(handler), quick)
    assert sent.status == 0x0000
    assert dcmread(BytesIO(received[0])) == ds


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007])
def test_a_warning_is_a_success_with_a_remark(pacs: StartPacs, quick: Settings, status: int) -> None:
    sent = send(part10(result()), pacs(lambda _: status), quick)
    assert sent.status == status


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


def keeping(received: list[Dataset]) -> Callable[[Event], int]:
    """A handler that keeps what it gets, with its transfer syntax."""

    def handler(event: Event) -> int:
        ds = dcmread(BytesIO(event.encoded_dataset()))
        received.append(ds)
        return 0x0000

    return handler


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_recoded_without_loss_to_what_the_destination_likes_best(
    pacs: StartPacs, quick: Settings, syntax: str
) -> None:
    received: list[Dataset] = []
    ds = result()
    destination = pacs(keeping(received), (ExplicitVRLittleEndian, syntax))
    liking = destination.model_copy(update={"transfer_syntaxes": (syntax,)})
    assert send(part10(ds), liking, quick).transfer_syntax_uid == syntax
    assert received[0].file_meta.TransferSyntaxUID == syntax
    assert received[0].SOPInstanceUID == ds.SOPInstanceUID
    assert (received[0].pixel_array == ds.pixel_array).all()
    deaf = pacs(keeping(received)).model_copy(update={"transfer_syntaxes": (syntax,)})
    assert send(part10(ds), deaf, quick).transfer_syntax_uid == ExplicitVRLittleEndian


@pytest.mark.peers("Orthanc")
def test_orthanc_shows_what_was_recoded_for_it(quick: Settings, tmp_path: Path) -> None:
    with Orthanc(tmp_path / "orthanc") as archive:
        for syntax in (RLELossless, JPEGLSLossless):
            ds = result()
            destination = Destination(
                name="pacs",
                ae_title="ORTHANC",
                host="127.0.0.1",
                port=archive.dicom_port,
                transfer_syntaxes=(syntax,),
            )
            assert send(part10(ds), destination, quick).transfer_syntax_uid == syntax
            (found,) = archive.post(
                "/tools/find", {"Level": "Instance", "Query": {"SOPInstanceUID": ds.SOPInstanceUID}}
            )
            shown = archive.client.get(f"/instances/{found}/preview").raise_for_status().content
            assert (np.asarray(Image.open(BytesIO(shown)).convert("RGB")) == ds.pixel_array).all()


def test_what_was_compressed_with_loss_is_left_alone_where_it_can_be(
    pacs: StartPacs, quick: Settings
) -> None:
    received: list[Dataset] = []
    ds = result(JPEGBaseline8Bit)
    both = pacs(keeping(received), (JPEG2000Lossless, JPEGBaseline8Bit))
    liking = both.model_copy(update={"transfer_syntaxes": (JPEG2000Lossless,)})
    assert send(part10(ds), liking, quick).transfer_syntax_uid == JPEGBaseline8Bit
    assert received[0].PixelData == ds.PixelData
    one = pacs(keeping(received), (JPEG2000Lossless,))
    liking = one.model_copy(update={"transfer_syntaxes": (JPEG2000Lossless,)})
    assert send(part10(ds), liking, quick).transfer_syntax_uid == JPEG2000Lossless
    assert (received[1].pixel_array == pixels_of(ds)).all()


def pixels_of(ds: Dataset) -> object:
    """The pixels as RGB, as decompressing gives them."""
    decoded = dcmread(BytesIO(part10(ds)))
    decoded.decompress()
    return decoded.pixel_array


def test_nothing_is_compressed_with_loss_again(pacs: StartPacs, quick: Settings) -> None:
    destination = pacs(lambda _: 0x0000, (JPEG2000,))
    with pytest.raises(ResultNotAcceptedError):
        send(part10(result(JPEGBaseline8Bit)), destination, quick)


def test_what_has_no_pixels_is_not_compressed(pacs: StartPacs, quick: Settings) -> None:
    ds = result()
    del ds.PixelData
    destination = pacs(lambda _: 0x0000, (RLELossless, ExplicitVRLittleEndian))
    liking = destination.model_copy(update={"transfer_syntaxes": (RLELossless,)})
    assert send(part10(ds), liking, quick).transfer_syntax_uid == ExplicitVRLittleEndian


def test_the_place_of_taking_stays_here_where_that_is_asked_for(pacs: StartPacs, quick: Settings) -> None:
    received: list[Dataset] = []
    ds = result(JPEGBaseline8Bit)
    ds.PixelData = encapsulate([jpeg()])
    ds["PixelData"].is_undefined_length = True
    destination = pacs(keeping(received), (JPEGBaseline8Bit,))
    send(part10(ds), destination, quick)
    send(part10(ds), destination.model_copy(update={"strip_location": True}), quick)
    assert b"FELLOWSHIP-OF-GPS" in received[0].PixelData
    assert b"FELLOWSHIP-OF-GPS" not in received[1].PixelData
    assert (received[0].pixel_array == received[1].pixel_array).all()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (0xA700, DestinationBusyError),
        (0x0110, DestinationBusyError),
        (0xA900, ResultNotAcceptedError),
        (0xC000, ResultNotAcceptedError),
        (0x0124, ResultNotAcceptedError),
    ],
)
def test_a_failure_passes_or_stays(
    pacs: StartPacs, quick: Settings, status: int, kind: type[DestinationRefusedError]
) -> None:
    with pytest.raises(kind):
        send(part10(result()), pacs(lambda _: status), quick)


def test_an_echo_tells_whether_it_is_there(
    pacs: StartPacs, quick: Settings, free_port: Callable[[], int]
) -> None:
    there = pacs(lambda _: 0x0000, sop_class=Verification)
    verify(there, quick)
    verify(pacs(lambda _: 0x0000), quick)  # takes no association for Verification: there all the same
    with pytest.raises(DestinationUnreachableError, match="rejected"):
        verify(there.model_copy(update={"ae_title": "OTHER"}), quick)
    with pytest.raises(DestinationUnreachableError):
        verify(there.model_copy(update={"port": free_port()}), quick)


def test_what_is_no_dicom_object(pacs: StartPacs, quick: Settings) -> None:
    with pytest.raises(ResultError):
        send(b"no DICOM", pacs(lambda _: 0), quick)
