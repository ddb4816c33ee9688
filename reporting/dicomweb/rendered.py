"""WADO-RS rendered: pictures and thumbnails that any browser shows (DICOM PS3.18 section 10.4.1.1.3)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import structlog
from PIL import Image, ImageOps
from starlette.responses import Response

from reporting.dicomweb.call import Call
from reporting.dicomweb.conditional import etag, is_known, not_modified
from reporting.dicomweb.media import Part, begun, multipart
from reporting.dicomweb.numbers import whole_number
from reporting.dicomweb.pixels import picture
from reporting.dicomweb.problem import DicomwebError, not_acceptable, not_found
from reporting.dicomweb.retrieve import frame_numbers
from reporting.dicomweb.window import Window, window_of
from reporting.holdings.database.holding_records import HeldInstance
from reporting.holdings.instance_file import InstanceFile
from service.errors import StorageError

_log = structlog.get_logger(__name__)

_FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG"}
_QUALITY = 90
_MOST_SIDE = 8192  # px, of a viewport
_THUMBNAIL = 256  # px


@dataclass(frozen=True, kw_only=True)
class Viewport:
    """A region of the picture, scaled to fit a rectangle."""

    width: int  # px
    height: int
    region: tuple[float, float, float, float] | None  # left, top, width, height; negative: mirrored

    def apply(self, image: Image.Image) -> Image.Image:
        """Cut out and scale, keeping the proportions."""
        if self.region is not None:
            image = self._cut(image, self.region)
        scale = min(self.width / image.width, self.height / image.height)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        return image.resize(size, Image.Resampling.LANCZOS) if size != image.size else image

    @staticmethod
    def _cut(image: Image.Image, region: tuple[float, float, float, float]) -> Image.Image:
        left, top, width, height = region
        right, bottom = left + (abs(width) or image.width), top + (abs(height) or image.height)
        box = (
            max(0, int(left)), max(0, int(top)),
            min(image.width, math.ceil(right)), min(image.height, math.ceil(bottom)),
        )  # fmt: skip
        if box[0] >= box[2] or box[1] >= box[3]:
            raise DicomwebError(400, "the viewport's region is outside of the picture")
        cut = image.crop(box)
        cut = ImageOps.mirror(cut) if width < 0 else cut
        return ImageOps.flip(cut) if height < 0 else cut


@dataclass(frozen=True, kw_only=True)
class _Style:
    """How pictures are made."""

    media_type: str
    viewport: Viewport | None
    window: Window | None
    quality: int  # of JPEG, 1..100

    def encode(self, image: Image.Image) -> bytes:
        made = BytesIO()
        shown = self.viewport.apply(image) if self.viewport is not None else image
        if self.media_type == "image/jpeg":
            shown.save(made, "JPEG", quality=self.quality)
        else:
            shown.save(made, _FORMATS[self.media_type])
        return made.getvalue()


def rendered(call: Call) -> Response:
    """Every picture the path names; one instance or frame as itself, more as a multipart body."""
    return _answer(call, _style(call, None), one=bool(call.instance))


def thumbnail(call: Call) -> Response:
    """One small picture of what the path names."""
    small = Viewport(width=_THUMBNAIL, height=_THUMBNAIL, region=None)
    return _answer(call, _style(call, small), one=True)


def _answer(call: Call, style: _Style, *, one: bool) -> Response:
    shown = [each for each in call.held() if each.number_of_frames]
    if not shown:
        raise DicomwebError(406, "there is no picture in it")
    listed = "frames" in call.request.path_params
    numbers = frame_numbers(call) if listed else [1]
    if listed and max(numbers) > shown[0].number_of_frames:
        raise not_found("the frame")
    query = str(call.request.url.query)
    tag = etag(
        *(each.sha256[:16] for each in shown[:8]), *map(str, numbers), style.media_type[6:], query[:200]
    )
    if is_known(call.request, tag):
        return not_modified(tag)
    headers = {"ETag": tag, "Content-Type": style.media_type}
    if one and len(numbers) == 1:
        return Response(_render(call, shown[0], numbers[0], style), headers=headers)
    return multipart(begun(_parts(call, shown, numbers, style)), style.media_type, {"ETag": tag})


def _parts(call: Call, shown: list[HeldInstance], numbers: list[int], style: _Style) -> Iterator[Part]:
    failed: Exception | None = None
    sent = 0
    for instance in shown:
        for number in numbers:
            try:
                picture_bytes = _render(call, instance, number, style)
            except (DicomwebError, StorageError) as exc:  # the others arrive all the same
                failed = exc
                _log.warning(
                    "not-rendered", sop_instance_uid=instance.sop_instance_uid, error=type(exc).__name__
                )
                continue
            sent += 1
            yield Part(
                content_type=style.media_type,
                location=f"{call.service.instance_url(instance)}/frames/{number}/rendered",
                chunks=(picture_bytes,),
            )
    if failed is not None and not sent:
        raise failed


def _render(call: Call, instance: HeldInstance, number: int, style: _Style) -> bytes:
    def make() -> bytes:
        with call.service.recoder.turn(), InstanceFile(call.service.api.store, instance.sha256) as file:
            return style.encode(picture(file, number, style.window))

    return call.service.api.renditions.get(instance.sha256, f"frame {number} {style}", make)


def _style(call: Call, viewport: Viewport | None) -> _Style:
    query = call.request.query_params
    quality = whole_number(query.get("quality", str(_QUALITY)), "quality", least=1, most=100)
    return _Style(
        media_type=_media_type(call),
        viewport=_viewport(query["viewport"]) if "viewport" in query else viewport,
        window=window_of(query["window"]) if "window" in query else None,
        quality=quality,
    )


def _media_type(call: Call) -> str:
    for each in call.accepted():
        for media_type in _FORMATS:
            if each.takes(media_type):
                return media_type
    raise not_acceptable(", ".join(_FORMATS))


def _viewport(text: str) -> Viewport:
    """Read the query parameter ``viewport``: vw,vh[,sx,sy,sw,sh] (PS3.18 section 8.3.5.1.3).

    Raises:
        DicomwebError: 400.
    """
    parts = [part.strip() for part in text.split(",")]
    try:
        width, height = (whole_number(part, "viewport") for part in parts[:2])
        numbers = [float(part) if part else 0.0 for part in parts[2:]]
    except (ValueError, IndexError) as exc:
        raise DicomwebError(400, "viewport is vw,vh or vw,vh,sx,sy,sw,sh") from exc
    if len(numbers) not in (0, 4) or not all(map(math.isfinite, numbers)):
        raise DicomwebError(400, "viewport is vw,vh or vw,vh,sx,sy,sw,sh")
    if not 1 <= width <= _MOST_SIDE or not 1 <= height <= _MOST_SIDE:
        raise DicomwebError(400, f"a viewport's sides are from 1 to {_MOST_SIDE} pixels")
    region = (numbers[0], numbers[1], numbers[2], numbers[3]) if numbers else None
    return Viewport(width=width, height=height, region=region)
