"""What a JPEG stream says of itself beside its pixels: size, EXIF orientation, ICC profile."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

from PIL import Image

_ORIENTATION = 0x0112  # EXIF 2.32, table 4


@dataclass(frozen=True, kw_only=True)
class StreamInfo:
    """The header of a JPEG stream."""

    rows: int
    columns: int
    orientation: int  # EXIF's, 1..8; 1 where nothing says
    icc_profile: (
        bytes  # empty where there is none, and of printers' colours, which the decoder converts by it
    )


def stream_info(codestream: bytes) -> StreamInfo | None:
    """Read the header of a JPEG stream; None for what is none. No pixel is decoded."""
    try:
        with Image.open(io.BytesIO(codestream), formats=("JPEG",)) as image:
            profile = b"" if image.mode == "CMYK" else image.info.get("icc_profile") or b""
            return StreamInfo(
                rows=image.height,
                columns=image.width,
                orientation=_orientation(image),
                icc_profile=bytes(profile),
            )
    except (OSError, SyntaxError, ValueError, KeyError, IndexError, struct.error, EOFError, TypeError):
        return None


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, KeyError, IndexError, struct.error, EOFError, TypeError):
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
