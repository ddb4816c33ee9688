"""Quality gates: whether a photograph can be judged at all.

Measures are taken at a fixed inter-ocular distance, so that they do not depend on the camera's
resolution. Each gate that fails gives one RejectionReason; the measures are always kept.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from service.appraisal.face.alignment import CANONICAL_INTER_OCULAR, align
from service.appraisal.face.finder import LEFT_IRIS, RIGHT_IRIS, Face
from service.appraisal.face.regions import FACE_OVAL, face_mask
from service.appraisal.face.upright import is_upright
from service.appraisal.gates.compression import estimate_jpeg_quality
from service.appraisal.gates.optics import blur_sigma, exposure_ev, light_asymmetry_ev
from service.appraisal.photograph.decode import Photograph
from service.appraisal.settings import AppraisalSettings
from service.records import QualityMeasures, RejectionReason

SHARPNESS_INTER_OCULAR_PX = 48  # distance of the iris centres at which sharpness and light are measured
BLUR_INTER_OCULAR_PX = 96  # at which blur is measured
_JUDGED_INTER_OCULAR_PX = 92  # at which methods see the face; finer noise is averaged away
_OVAL_SIDES, _OVAL_ENDS = (234, 454), (10, 152)  # mesh points
# Logarithm of a picture's true width over its height by those of the face and of the irises, which are
# round: least squares on 228 normal faces as they are, squeezed and stretched by 4 : 3.
_FORM, _FORM_OF_FACE, _FORM_OF_IRIS = 0.067, 0.982, 0.425
_BLANK = 0.01  # grey levels that a block of one value spans
_DARK, _BRIGHT = 2, 253  # luminance at and beyond which a pixel is clipped


def check_quality(
    photograph: Photograph, faces: tuple[Face, ...], settings: AppraisalSettings
) -> tuple[QualityMeasures, tuple[RejectionReason, ...]]:
    """Measure the photograph and name every gate it fails.

    Args:
        photograph: The photograph.
        faces: What the face finder found in it, the largest first.
        settings: Thresholds.

    Returns:
        The measures, and the reasons not to judge it; none when it may be judged.
    """
    if not faces:
        return QualityMeasures(faces=0), (RejectionReason.NO_FACE,)
    measures = replace(_measure(photograph, faces[0]), faces=_counted(faces, settings))
    if not is_upright(faces[0]):  # whatever else was measured was measured on a face that is not there
        return measures, (RejectionReason.TURNED,)
    reasons = _failed(measures, _outside_fraction(photograph, faces[0]), settings)
    return measures, (*reasons, *_form(photograph, faces[0], settings))


def _form(photograph: Photograph, face: Face, settings: AppraisalSettings) -> tuple[RejectionReason, ...]:
    """Whether the picture is squeezed, or pieces of it are missing."""
    gates = (
        (RejectionReason.SQUEEZED, abs(squeeze(face)) > settings.max_squeeze),
        (
            RejectionReason.DAMAGED,
            _blank_fraction(_native_face(photograph, face)) > settings.max_blank_fraction,
        ),
    )
    return tuple(reason for reason, failed in gates if failed)


def squeeze(face: Face) -> float:
    """By how much a picture is wider than what was photographed, logarithm of width over height.

    The mesh follows a squeezed face by two thirds only; the irises tell the rest. Of 228 normal faces the
    middle 99 % lie within .127; a picture 4 : 3 too wide is found .283 too wide (first percentile .172).
    """
    rings = [face.landmarks[iris + 1 : iris + 5] for iris in (RIGHT_IRIS, LEFT_IRIS)]
    iris = float(np.mean([_form_of(ring[0], ring[2], ring[1], ring[3]) for ring in rings]))
    oval = face.landmarks[[*_OVAL_SIDES, *_OVAL_ENDS]]
    return _FORM + _FORM_OF_FACE * _form_of(*oval) + _FORM_OF_IRIS * iris


def _form_of(
    one_side: NDArray[np.float64],
    other_side: NDArray[np.float64],
    one_end: NDArray[np.float64],
    other_end: NDArray[np.float64],
) -> float:
    width = float(np.hypot(*(one_side - other_side)))
    height = float(np.hypot(*(one_end - other_end)))
    return float(np.log(max(width, 1e-6) / max(height, 1e-6)))


def _blank_fraction(luminance: NDArray[np.float64]) -> float:
    """Share of 8 x 8 blocks of the face that hold one value only: what a decoder puts for what is missing.

    Blocks of pure black or white are clipped rather than missing; other gates see those.
    """
    rows, columns = (length // 8 * 8 for length in luminance.shape)
    if not rows or not columns:
        return 0.0
    blocks = luminance[:rows, :columns].reshape(rows // 8, 8, columns // 8, 8)
    low, high = blocks.min(axis=(1, 3)), blocks.max(axis=(1, 3))
    return float(((high - low < _BLANK) & (low > _DARK) & (high < _BRIGHT)).mean())


def _counted(faces: tuple[Face, ...], settings: AppraisalSettings) -> int:
    """Faces large enough to be meant: a small one in the background is not."""
    least = faces[0].inter_ocular_px * settings.other_face_ratio
    return sum(1 for face in faces if face.inter_ocular_px >= least)


def _failed(
    measures: QualityMeasures, outside: float, settings: AppraisalSettings
) -> tuple[RejectionReason, ...]:
    def value(number: float | None) -> float:
        return 0.0 if number is None else number

    luminance, clipped = value(measures.mean_luminance), value(measures.clipped_fraction)
    over_clipped = clipped > settings.max_clipped_fraction
    gates = (
        (RejectionReason.SEVERAL_FACES, value(measures.faces) > 1),
        (RejectionReason.FACE_TOO_SMALL, value(measures.inter_ocular_px) < settings.min_inter_ocular_px),
        (RejectionReason.FACE_CUT_OFF, outside > settings.max_outside_fraction),
        (
            RejectionReason.BLURRED,
            value(measures.sharpness) < settings.min_sharpness
            or value(measures.blur_percent) > settings.max_blur_percent,
        ),
        (
            RejectionReason.UNDEREXPOSED,
            luminance < settings.min_luminance or (over_clipped and luminance < 128),
        ),
        (
            RejectionReason.OVEREXPOSED,
            luminance > settings.max_luminance or (over_clipped and luminance >= 128),
        ),
        (RejectionReason.YAW, abs(value(measures.yaw_deg)) > settings.max_yaw_deg),
        (RejectionReason.PITCH, abs(value(measures.pitch_deg)) > settings.max_pitch_deg),
        (
            RejectionReason.COMPRESSED,
            measures.jpeg_quality is not None and measures.jpeg_quality < settings.min_jpeg_quality,
        ),
        (RejectionReason.NOISY, _noise_as_judged(measures) > settings.max_noise_sigma),
        (
            RejectionReason.UNEVEN_LIGHT,
            abs(value(measures.light_asymmetry_ev)) > settings.max_light_asymmetry_ev,
        ),
    )
    return tuple(reason for reason, failed in gates if failed)


def _measure(photograph: Photograph, face: Face) -> QualityMeasures:
    size = round(SHARPNESS_INTER_OCULAR_PX / CANONICAL_INTER_OCULAR)
    aligned = align(photograph, face, size)
    judged = face_mask(aligned.landmarks, (size, size)) & aligned.inside
    common = QualityMeasures(
        inter_ocular_px=face.inter_ocular_px * photograph.reduction,
        yaw_deg=face.pose.yaw_deg,
        pitch_deg=face.pose.pitch_deg,
        roll_deg=face.pose.roll_deg,
    )
    if not judged.any():
        return common
    luminance = cv2.cvtColor(aligned.rgb, cv2.COLOR_RGB2GRAY).astype(np.float64)
    values = luminance[judged]
    clipped = (values <= _DARK) | (values >= _BRIGHT)
    native = _native_face(photograph, face)
    block = 8 // photograph.reduction  # pixels a side that JPEG's blocks have as decoded
    noise_sigma = _noise_sigma(native)
    return replace(
        common,
        sharpness=_sharpness(luminance, judged),
        mean_luminance=float(values.mean()),
        clipped_fraction=float(clipped.mean()),
        blockiness=_blockiness(native, block),
        noise_sigma=noise_sigma * photograph.reduction,  # averaging over so many pixels a side took it away
        jpeg_quality=estimate_jpeg_quality(native, block),
        blur_percent=_blur_percent(photograph, face, noise_sigma),
        exposure_ev=exposure_ev(aligned.rgb, judged),
        light_asymmetry_ev=light_asymmetry_ev(aligned.rgb, judged),
    )


def _noise_as_judged(measures: QualityMeasures) -> float:
    """Noise left once the face has been brought to the size at which methods see it."""
    if measures.noise_sigma is None or not measures.inter_ocular_px:
        return 0.0
    return measures.noise_sigma * min(1.0, _JUDGED_INTER_OCULAR_PX / measures.inter_ocular_px)


def _blur_percent(photograph: Photograph, face: Face, noise_sigma: float) -> float | None:
    """Sigma of the blur in percent of the inter-ocular distance."""
    size = round(BLUR_INTER_OCULAR_PX / CANONICAL_INTER_OCULAR)
    aligned = align(photograph, face, size)
    judged = face_mask(aligned.landmarks, (size, size)) & aligned.inside
    luminance = cv2.cvtColor(aligned.rgb, cv2.COLOR_RGB2GRAY).astype(np.float64)
    left = noise_sigma * min(1.0, BLUR_INTER_OCULAR_PX / max(face.inter_ocular_px, 1.0))
    sigma = blur_sigma(luminance, judged, left)
    return None if sigma is None else 100 * sigma / BLUR_INTER_OCULAR_PX


def _sharpness(luminance: NDArray[np.float64], judged: NDArray[np.bool_]) -> float:
    """Variance of the Laplacian (Pech-Pacheco et al. 2000) over the face, contrast-normalised."""
    laplacian = cv2.Laplacian(luminance, cv2.CV_64F)
    core = cv2.erode(judged.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    if not core.any():
        return 0.0
    contrast = max(float(luminance[core].std()), 8.0)
    return float(np.asarray(laplacian)[core].var()) * (40.0 / contrast) ** 2


def _native_face(photograph: Photograph, face: Face) -> NDArray[np.float64]:
    """Luminance of the face's box at the resolution it was decoded to, (h, w) float64."""
    left, top, right, bottom = (round(v) for v in face.box)
    # Starts on a multiple of 8, where JPEG's blocks start.
    left, top = max(0, left) // 8 * 8, max(0, top) // 8 * 8
    part = photograph.rgb[top : max(bottom, top + 8), left : max(right, left + 8)]
    luminance: NDArray[np.float64] = part.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    return luminance


def _blockiness(luminance: NDArray[np.float64], block: int = 8) -> float:
    """Measure how far steps across JPEG's block edges exceed the others (Wang et al. 2002), >= 0."""
    excess = []
    for plane in (luminance, luminance.T):
        steps = np.abs(np.diff(plane, axis=1)).mean(0)
        if steps.size < 2 * block:
            return 0.0
        edges = steps[block - 1 :: block].mean()
        within = np.delete(steps, np.arange(block - 1, steps.size, block)).mean()
        excess.append(edges / max(within, 0.25) - 1.0)
    return max(0.0, float(np.mean(excess)))


def _noise_sigma(luminance: NDArray[np.float64]) -> float:
    """Estimate the noise's standard deviation (Immerkaer 1996, in its median form), 0..255 scale."""
    if min(luminance.shape) < 8:
        return 0.0
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float64)
    response = np.abs(np.asarray(cv2.filter2D(luminance, cv2.CV_64F, kernel)))[1:-1, 1:-1]
    return float(np.median(response) / (0.6745 * 6.0))


def _outside_fraction(photograph: Photograph, face: Face) -> float:
    """Fraction of the face oval's area that lies outside the photograph."""
    oval = face.landmarks[list(FACE_OVAL)]
    low, span = oval.min(0), float(np.ptp(oval, axis=0).max())
    side = 256
    scale = (side - 1) / max(span, 1e-6)
    plane = np.zeros((side, side), dtype=np.uint8)
    cv2.fillPoly(plane, [np.rint((oval - low) * scale).astype(np.int32)], (1.0,))
    rows, columns = np.nonzero(plane)
    x, y = columns / scale + low[0], rows / scale + low[1]
    outside = (x < -0.5) | (y < -0.5) | (x > photograph.width - 0.5) | (y > photograph.height - 0.5)
    return float(outside.mean())
