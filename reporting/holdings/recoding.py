"""Instances in another transfer syntax, under their own UID: the pixels stay the same."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from types import MappingProxyType

from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from service.errors import ResultError

UNCOMPRESSED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
# What can be made of any instance; nothing is ever compressed with loss. Encoder, by pydicom's name.
_ENCODERS: Mapping[UID, str] = MappingProxyType(
    {JPEGLSLossless: "pyjpegls", JPEG2000Lossless: "pylibjpeg", RLELossless: "pydicom"}
)
TARGETS = (*UNCOMPRESSED, DeflatedExplicitVRLittleEndian, *_ENCODERS)
_CODEC_ERRORS = (
    AttributeError, EOFError, IndexError, KeyError, NotImplementedError, OSError, RuntimeError,
    SyntaxError, TypeError, ValueError,
)  # fmt: skip


def recoded(ds: FileDataset, target: UID) -> bytes:
    """The Part 10 file of an instance in another transfer syntax.

    Args:
        ds: Whole; it is changed.
        target: One of TARGETS.

    Raises:
        ResultError: The pixels cannot be decoded, or not be encoded so.
    """
    current = UID(str(ds.file_meta.TransferSyntaxUID))
    if target not in TARGETS:
        raise ResultError(f"nothing is recoded to {target.name}")
    try:
        if "PixelData" in ds and current.is_encapsulated:
            ds.decompress(generate_instance_uid=False)
        if "PixelData" not in ds and target.is_encapsulated:
            raise ResultError(f"without integer pixel data there is nothing to encode as {target.name}")
        if target.is_encapsulated:
            ds.compress(target, encoding_plugin=_ENCODERS[target], generate_instance_uid=False)
        ds.file_meta.TransferSyntaxUID = target
        made = BytesIO()
        ds.save_as(made, implicit_vr=target.is_implicit_VR, little_endian=True)
    except _CODEC_ERRORS as exc:
        raise ResultError(f"cannot be recoded from {current.name} to {target.name}: {exc}") from exc
    return made.getvalue()


def recoded_data_set(ds: FileDataset, target: UID) -> FileDataset:
    """The same, read back.

    Raises:
        ResultError: See ``recoded``.
    """
    return dcmread(BytesIO(recoded(ds, target)))
