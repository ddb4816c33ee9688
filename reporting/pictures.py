"""Where an appraisal's picture is: waiting, in its Secondary Capture, or, of an old one, in the store."""

from __future__ import annotations

import hashlib
from io import BytesIO

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from reporting.dicom.results import ResultPictures
from reporting.dicom.secondary_capture import jpeg_of
from reporting.holdings.database import holdings
from reporting.identifiers import ResultKind, result_uid
from service.database import instances, pictures
from service.database.pool import Connection
from service.errors import ResultError, StoredMapError
from service.records import PictureEncoding, SavedAppraisal
from service.storage.local import InstanceStore


def pictures_of(connection: Connection, store: InstanceStore, saved: SavedAppraisal) -> ResultPictures | None:
    """Find an appraisal's pictures.

    Args:
        connection: In a transaction.
        store: Holds Secondary Captures, and the pictures of old appraisals.
        saved: The appraisal.

    Returns:
        None of a rejected photograph.

    Raises:
        StoredMapError: There is none that is the appraisal's own.
        StorageError: It is corrupt.
    """
    wanted = saved.heatmap_sha256
    if not wanted:
        return None
    waiting = pictures.pending(connection, saved.appraisal.appraisal_id)
    jpeg = waiting.get(PictureEncoding.JPEG)
    if jpeg is not None and hashlib.sha256(jpeg).hexdigest() == wanted:
        return ResultPictures(picture=jpeg, lossless=waiting.get(PictureEncoding.PNG, b""))
    if store.contains(wanted):  # of an appraisal of before pictures lay in their Secondary Capture alone
        return ResultPictures(picture=store.read(wanted))
    capture = _capture_of(connection, saved)
    if not capture:
        raise StoredMapError(f"the picture of appraisal {saved.appraisal.appraisal_id} is gone")
    return ResultPictures(picture=_held(store.read(capture), wanted))


def _capture_of(connection: Connection, saved: SavedAppraisal) -> str:
    """Key in the store of the newest Secondary Capture; a corrected photograph has one a version."""
    newest = instances.get(connection, saved.instance_id).version
    for version in range(newest, 0, -1):
        uid = result_uid(saved.appraisal.appraisal_id, ResultKind.SECONDARY_CAPTURE, version)
        if found := holdings.sha256_of(connection, uid):
            return found
    return ""


def _held(capture: bytes, wanted: str) -> bytes:
    try:
        picture = jpeg_of(dcmread(BytesIO(capture)))
    except (InvalidDicomError, ResultError, EOFError, OSError) as exc:
        raise StoredMapError("the Secondary Capture cannot be read back") from exc
    if hashlib.sha256(picture).hexdigest() != wanted:
        raise StoredMapError("the Secondary Capture holds another picture than the appraisal's")
    return picture
