"""Which DICOM objects an appraisal gives, in the order they are sent."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from reporting.dicom import parametric_map, secondary_capture, structured_report
from reporting.dicom.context import ReportContext, ResultObject
from service.config import Settings
from service.errors import ResultError
from service.records import AppraisalStatus
from service.storage.local import InstanceStore


def build_results(context: ReportContext, settings: Settings, store: InstanceStore) -> list[ResultObject]:
    """Make every result object of an appraisal.

    An appraised photograph gives a Secondary Capture and, as configured, a parametric map and a structured
    report that refers to both; a rejected one gives the structured report alone, which says why.

    Args:
        context: The photograph and its appraisal.
        settings: Uses ``structured_report`` and ``parametric_map``.
        store: Holds heatmap and difference map.

    Raises:
        ResultError: An object would be invalid, or a map kept with the appraisal is not what it should be.
        StorageError: A map is gone or corrupt.
    """
    saved = context.saved
    appraised = saved.appraisal.status is AppraisalStatus.APPRAISED
    results = []
    if appraised:
        results.append(secondary_capture.build(context, decode_png(store.read(saved.heatmap_sha256))))
    if appraised and settings.parametric_map:
        difference_map = decode_npy(store.read(saved.difference_map_sha256))
        results.append(parametric_map.build(context, difference_map))
    if settings.structured_report:
        results.append(structured_report.build(context, results))
    return results


def decode_png(data: bytes) -> npt.NDArray[np.uint8]:
    """Decode a heatmap: (H, W, 3) uint8, sRGB.

    Raises:
        ResultError: Not an RGB picture.
    """
    try:
        with Image.open(BytesIO(data), formats=["PNG"]) as picture:
            if picture.mode != "RGB":
                raise ResultError(f"the heatmap is {picture.mode}, not RGB")
            return np.asarray(picture, dtype=np.uint8)
    except (UnidentifiedImageError, OSError, SyntaxError) as exc:
        raise ResultError("the heatmap cannot be decoded") from exc


def decode_npy(data: bytes) -> npt.NDArray[np.float32]:
    """Decode a difference map: (H, W) float32, NaN where nothing was judged.

    Raises:
        ResultError: Not such an array.
    """
    try:
        array = np.load(BytesIO(data), allow_pickle=False)
    except (ValueError, OSError, EOFError) as exc:
        raise ResultError("the difference map cannot be decoded") from exc
    if not isinstance(array, np.ndarray) or array.dtype != np.float32 or array.ndim != 2:
        raise ResultError("the difference map is not (H, W) float32")
    return array
