"""What callers that ask a node are made of, by pynetdicom."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    VLPhotographicImageStorage,
)
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association

from dicom_node.acceptor.scp import Node
from dicom_node.query.contexts import STUDY_ROOT_GET

PENDING, PENDING_UNMATCHED, SUCCESS, CANCELLED = 0xFF00, 0xFF01, 0x0000, 0xFE00
NOT_AUTHORISED, DOES_NOT_MATCH, UNKNOWN_DESTINATION = 0x0124, 0xA900, 0xA801
SOME_FAILED, CANNOT_PERFORM = 0xB000, 0xA702


class Workstation:
    """A storage SCP that keeps what it is sent, and answers as it is told."""

    def __init__(self) -> None:
        self.received: list[Dataset] = []
        self.originators: list[tuple[str | None, int | None]] = []
        self.statuses: Iterator[int] = iter(())
        entity = AE("VIEWER")
        entity.add_supported_context(VLPhotographicImageStorage, [JPEGBaseline8Bit, ExplicitVRLittleEndian])
        handlers = [(evt.EVT_C_STORE, self.take)]
        self.server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port = int(self.server.server_address[1])

    def take(self, event: evt.Event) -> int:
        ds = event.dataset
        ds.file_meta = event.file_meta
        status = next(self.statuses, SUCCESS)
        if status != 0xA700:
            self.received.append(ds)
        request = event.request
        self.originators.append(
            (request.MoveOriginatorApplicationEntityTitle, request.MoveOriginatorMessageID)
        )
        return status


def associate(node: Node, *sop_classes: str, calling: str = "VIEWER", ext_neg: object = None) -> Association:
    entity = AE(ae_title=calling)
    roles = []
    for uid in sop_classes:
        entity.add_requested_context(uid)
        if uid == STUDY_ROOT_GET:
            entity.add_requested_context(VLPhotographicImageStorage, JPEGBaseline8Bit)
            entity.add_requested_context(VLPhotographicImageStorage, ExplicitVRLittleEndian)
            roles.append(build_role(VLPhotographicImageStorage, scp_role=True))
    association = entity.associate("127.0.0.1", node.port, ext_neg=roles + ([ext_neg] if ext_neg else []))
    assert association.is_established
    return association


def keys(level: str, **values: object) -> Dataset:
    ds = Dataset()
    ds.QueryRetrieveLevel = level
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


Find = Callable[..., tuple[int, list[Dataset]]]
