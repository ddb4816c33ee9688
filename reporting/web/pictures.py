"""Pictures of pages, made once: photograph, heatmap on it, counterpart, thumbnails."""

from __future__ import annotations

from io import BytesIO
from types import MappingProxyType
from typing import Final
from uuid import UUID

from PIL import Image

from reporting.dicomweb.pixels import picture
from reporting.dicomweb.problem import DicomwebError
from reporting.fhir.http import Api
from reporting.holdings.instance_file import InstanceFile
from reporting.pictures import pictures_of
from service.database import appraisals
from service.database.pool import transaction
from service.errors import StorageError, StoredMapError
from service.pictures.native_map import read_map
from service.records import SavedAppraisal

THUMBNAIL: Final = 96  # px of the longer side
LARGE: Final = 1200
# In the place of a picture that cannot be shown.
NOTHING: Final = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 96 96"><rect'
    b' width="96" height="96" fill="#8a978f"/><circle cx="48" cy="38" r="18" fill="#dfe6e1"/>'
    b'<path d="M14 96c0-22 15-34 34-34s34 12 34 34"'
    b' fill="#dfe6e1"/></svg>'
)
_QUALITY = MappingProxyType({THUMBNAIL: 80, LARGE: 88})
_SAME_SHAPE = 0.02  # by which proportions may differ: pictures are whole pixels


def photograph(api: Api, sha256: str, side: int) -> bytes:
    """A photograph as a JPEG of at most ``side`` pixels.

    Raises:
        DicomwebError: It holds no picture that can be shown.
        StorageError: Its bytes are gone or damaged.
    """

    def make() -> bytes:
        with InstanceFile(api.store, sha256) as file:
            return _jpeg(picture(file, 1, None), side)

    return api.renditions.get(sha256, f"dashboard photograph {side}", make)


def painted(api: Api, sha256: str, saved: SavedAppraisal) -> bytes:
    """The heatmap over the photograph, as the result's picture has it, without the legend beside it.

    It lies pixel for pixel on what ``photograph`` gives, so that one can be seen through the other.

    Raises:
        StoredMapError: The result has no such picture: it was rejected, or its picture is a triptych.
        DicomwebError: The photograph cannot be shown.
        StorageError: Bytes are gone or damaged.
    """

    def make() -> bytes:
        below = Image.open(BytesIO(photograph(api, sha256, LARGE)))
        whole = _result(api, saved)
        width = round(whole.height * below.width / below.height)
        if width >= whole.width * (1 + _SAME_SHAPE) or 2 * width < whole.width:
            raise StoredMapError("the result's picture is not the photograph with its heatmap")
        cut = whole.crop((0, 0, min(width, whole.width), whole.height))
        return _encoded(cut.resize(below.size, Image.Resampling.LANCZOS), LARGE)

    return api.renditions.get(f"{sha256}{saved.heatmap_sha256}", "dashboard painted", make)


def legend(api: Api, sha256: str, saved: SavedAppraisal) -> bytes:
    """What the colours of ``painted`` mean: the strip beside it in the result's picture.

    Raises:
        StoredMapError: As ``painted``.
        DicomwebError: As ``painted``.
        StorageError: As ``painted``.
    """

    def make() -> bytes:
        below = Image.open(BytesIO(photograph(api, sha256, LARGE)))
        whole = _result(api, saved)
        width = round(whole.height * below.width / below.height)
        if width >= whole.width or 2 * width < whole.width:
            raise StoredMapError("the result's picture has no legend beside the photograph")
        return _encoded(whole.crop((width, 0, whole.width, whole.height)), LARGE)

    return api.renditions.get(f"{sha256}{saved.heatmap_sha256}", "dashboard legend", make)


def counterpart(api: Api, saved: SavedAppraisal) -> bytes:
    """The face as it would normally be, in the method's own square, as a JPEG.

    Raises:
        StoredMapError: None was kept.
        StorageError: It is gone.
    """
    if not saved.difference_map_sha256:
        raise StoredMapError("a rejected photograph has no counterpart")
    made = read_map(api.store.read(saved.difference_map_sha256)).counterpart
    if not made:
        raise StoredMapError("no counterpart was kept")
    return made


def has_counterpart(api: Api, saved: SavedAppraisal | None) -> bool:
    """Whether a counterpart was kept."""
    if saved is None or not saved.difference_map_sha256:
        return False
    try:
        counterpart(api, saved)
    except (StoredMapError, StorageError):
        return False
    return True


def is_shown(api: Api, sha256: str) -> bool:
    """Whether a photograph can be shown."""
    try:
        photograph(api, sha256, LARGE)
    except (StorageError, DicomwebError):
        return False
    return True


def is_painted(api: Api, sha256: str, saved: SavedAppraisal | None) -> bool:
    """Whether there is a heatmap to lay over the photograph."""
    if saved is None or not saved.heatmap_sha256:
        return False
    try:
        painted(api, sha256, saved)
    except (StoredMapError, StorageError, DicomwebError):
        return False
    return True


def has_heatmap(api: Api, sha256: str, appraisal_id: UUID) -> bool:
    """Whether a result's heatmap can be laid over its photograph."""
    with transaction(api.pool) as connection:
        saved = appraisals.get(connection, appraisal_id)
    return is_painted(api, sha256, saved)


def _result(api: Api, saved: SavedAppraisal) -> Image.Image:
    with transaction(api.pool) as connection:
        found = pictures_of(connection, api.store, saved)
    if found is None:
        raise StoredMapError("a rejected photograph has no heatmap")
    return Image.open(BytesIO(found.picture)).convert("RGB")


def _jpeg(image: Image.Image, side: int) -> bytes:
    scale = min(1.0, side / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return _encoded(image.resize(size, Image.Resampling.LANCZOS) if size != image.size else image, side)


def _encoded(image: Image.Image, side: int) -> bytes:
    made = BytesIO()
    image.convert("RGB").save(made, "JPEG", quality=_QUALITY[side], optimize=True)
    return made.getvalue()
