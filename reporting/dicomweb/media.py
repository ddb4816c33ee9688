"""Media types of transfer syntaxes (DICOM PS3.18 tables 8.7.3-2 to 8.7.3-5), and multipart bodies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar
from uuid import uuid4

from pydicom.uid import (
    JPEG2000,
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from starlette.responses import StreamingResponse

from service.dicom.progressive import PROGRESSIVE_JPEG

_Item = TypeVar("_Item")

DICOM = "application/dicom"
OCTETS = "application/octet-stream"
FRAME_TYPES: Mapping[str, str] = MappingProxyType(
    {
        JPEGBaseline8Bit: "image/jpeg",
        PROGRESSIVE_JPEG: "image/jpeg",
        JPEGExtended12Bit: "image/jpeg",
        JPEGLossless: "image/jpeg",
        JPEGLosslessSV1: "image/jpeg",
        JPEGLSLossless: "image/jls",
        JPEGLSNearLossless: "image/jls",
        JPEG2000Lossless: "image/jp2",
        JPEG2000: "image/jp2",
        RLELossless: "image/dicom-rle",
    }
)
# What a frame is made in when a media type is asked for that it is not stored in.
MADE_FOR: Mapping[str, UID] = MappingProxyType(
    {
        OCTETS: ExplicitVRLittleEndian,
        "image/jls": JPEGLSLossless,
        "image/jp2": JPEG2000Lossless,
        "image/dicom-rle": RLELossless,
    }
)


def frame_type(transfer_syntax: str) -> str:
    """Media type of a frame stored in a transfer syntax."""
    return FRAME_TYPES.get(transfer_syntax, OCTETS)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of a multipart body."""

    content_type: str
    location: str
    chunks: Iterable[bytes]


def multipart(parts: Iterable[Part], media_type: str, headers: Mapping[str, str]) -> StreamingResponse:
    """Stream parts as multipart/related; memory does not grow with their number.

    Args:
        parts: Made as they are sent.
        media_type: Of the first part.
        headers: Of the response.
    """
    boundary = uuid4().hex
    response = StreamingResponse(_body(parts, boundary), headers=dict(headers))
    response.headers["Content-Type"] = f'multipart/related; type="{media_type}"; boundary={boundary}'
    return response


def _body(parts: Iterable[Part], boundary: str) -> Iterator[bytes]:
    for part in parts:
        head = (
            f"--{boundary}\r\nContent-Type: {part.content_type}\r\nContent-Location: {part.location}\r\n\r\n"
        )
        yield head.encode("ascii")
        yield from part.chunks
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode("ascii")


def begun(items: Iterator[_Item]) -> Iterator[_Item]:
    """The same, its first one made now, so that what is wrong is known before the answer begins."""
    first = next(items, None)

    def rest() -> Iterator[_Item]:
        if first is not None:
            yield first
            yield from items

    return rest()
