"""What the node accepts: one row for each SOP class; what is negotiated is what can be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    VLPhotographicImageStorage,
)
from pynetdicom.presentation import PresentationContext

from dicom_node.query.contexts import QUERY_RETRIEVE, RESULT_CLASSES
from service.dicom.progressive import PROGRESSIVE_JPEG

VERIFICATION = UID("1.2.840.10008.1.1")
STORAGE_COMMITMENT_PUSH_MODEL = UID("1.2.840.10008.1.20.1")
UNCOMPRESSED: tuple[UID, ...] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
TRANSFER_SYNTAXES: tuple[UID, ...] = (
    *UNCOMPRESSED,
    DeflatedExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    PROGRESSIVE_JPEG,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    JPEG2000Lossless,
    JPEG2000,
    RLELossless,
)


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One SOP class that is accepted."""

    sop_class_uid: UID
    name: str  # as in PS3.4 annex B.5
    transfer_syntaxes: tuple[UID, ...] = TRANSFER_SYNTAXES


READERS: Mapping[str, Reader] = MappingProxyType(
    {
        reader.sop_class_uid: reader
        for reader in (
            Reader(sop_class_uid=VLPhotographicImageStorage, name="VL Photographic Image Storage"),
            Reader(sop_class_uid=SecondaryCaptureImageStorage, name="Secondary Capture Image Storage"),
            Reader(
                sop_class_uid=MultiFrameTrueColorSecondaryCaptureImageStorage,
                name="Multi-frame True Color Secondary Capture Image Storage",
            ),
        )
    }
)


def supported_contexts() -> list[PresentationContext]:
    """The presentation contexts the node accepts as an SCP."""
    contexts = [
        _context(VERIFICATION, UNCOMPRESSED),
        _context(STORAGE_COMMITMENT_PUSH_MODEL, UNCOMPRESSED, both_roles=True),
    ]
    contexts += [_context(uid, UNCOMPRESSED) for uid in QUERY_RETRIEVE]
    contexts += [
        _context(reader.sop_class_uid, reader.transfer_syntaxes, both_roles=True)
        for reader in READERS.values()
    ]
    contexts += [_context(uid, TRANSFER_SYNTAXES, both_roles=True) for uid in RESULT_CLASSES]
    return contexts


def _context(
    abstract_syntax: str, transfer_syntaxes: tuple[UID, ...], *, both_roles: bool = False
) -> PresentationContext:
    context = PresentationContext()
    context.abstract_syntax = UID(abstract_syntax)
    context.transfer_syntax = list(transfer_syntaxes)
    if both_roles:  # a requestor may propose to be the SCP: it then reports on an association of its own
        context.scu_role = context.scp_role = True
    return context
