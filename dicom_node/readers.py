"""What the node accepts: one row for each SOP class; what is negotiated is what can be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    KeyObjectSelectionDocumentStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    VLPhotographicImageStorage,
)

from reporting.holdings.recoding import UNCOMPRESSED
from service.dicom.progressive import PROGRESSIVE_JPEG

VERIFICATION = UID("1.2.840.10008.1.1")
STORAGE_COMMITMENT_PUSH_MODEL = UID("1.2.840.10008.1.20.1")
REJECTION_NOTE = KeyObjectSelectionDocumentStorage  # IHE RAD TF-2 section 4.66
NOTE_SYNTAXES: tuple[UID, ...] = (*UNCOMPRESSED, DeflatedExplicitVRLittleEndian)
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


def takes(sop_class_uid: str, transfer_syntax_uid: str) -> bool:
    """Whether objects of a class come in, photographs or notes, in a transfer syntax."""
    if sop_class_uid == REJECTION_NOTE:
        return transfer_syntax_uid in NOTE_SYNTAXES
    reader = READERS.get(sop_class_uid)
    return reader is not None and transfer_syntax_uid in reader.transfer_syntaxes
