"""How good a photograph is, from what the quality gates measured: to choose one of several."""

from __future__ import annotations

from service.records import QualityMeasures

# What each measure loses a whole point at; about where the gates would begin to refuse.
_YAW_DEG, _PITCH_DEG = 15.0, 20.0
_BLUR_PERCENT = 1.5
_NOISE = 10.0
_EXPOSURE_EV, _LIGHT_EV = 2.0, 1.5
_OCCLUDED, _CLIPPED = 0.3, 0.1
_JPEG_STEPS = 75.0  # of libjpeg's quality under 100
_INTER_OCULAR_PX = 200.0


def quality_of(measures: QualityMeasures) -> float:
    """Points lost by pose, blur, noise, light, covering and compression, negative; 0 is best.

    A measure that could not be made loses a whole point.
    """
    size = measures.inter_ocular_px
    losses = (
        _share(measures.yaw_deg, _YAW_DEG),
        _share(measures.pitch_deg, _PITCH_DEG),
        _share(measures.blur_percent, _BLUR_PERCENT),
        _share(measures.noise_sigma, _NOISE),
        _share(measures.exposure_ev, _EXPOSURE_EV),
        _share(measures.light_asymmetry_ev, _LIGHT_EV),
        _share(measures.clipped_fraction, _CLIPPED),
        _share(measures.occluded_fraction or 0.0, _OCCLUDED),  # most methods do not look for it
        0.0 if measures.jpeg_quality is None else (100 - measures.jpeg_quality) / _JPEG_STEPS,
        1.0 if not size else min(1.0, _INTER_OCULAR_PX / size - 1) if size < _INTER_OCULAR_PX else 0.0,
    )
    return -sum(losses)


def _share(value: float | None, whole: float) -> float:
    return 1.0 if value is None else abs(value) / whole
