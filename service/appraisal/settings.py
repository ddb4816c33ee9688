"""What decides an appraisal besides method and weights; its hash is part of every result's identity."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, kw_only=True)
class AppraisalSettings:
    """Thresholds of the quality gates, version ``gates``. docs/method.md tells how each was set."""

    gates: str = "gates-3"  # version of the thresholds, changed with them
    min_inter_ocular_px: float = 32.0  # distance of the iris centres in the photograph
    max_outside_fraction: float = 0.12  # of the face oval's area outside the picture
    min_sharpness: float = 20.0  # variance of the Laplacian at SHARPNESS_INTER_OCULAR_PX
    min_luminance: float = 35.0  # mean over the face, 0..255
    max_luminance: float = 232.0
    max_clipped_fraction: float = 0.30  # of the face's pixels at 0..2 or 253..255 in luminance
    max_yaw_deg: float = 15.0  # paper 001
    max_pitch_deg: float = 15.0  # paper 001
    max_blur_percent: float = 4.5  # sigma, of the inter-ocular distance
    min_jpeg_quality: float = 25.0  # libjpeg's scale; below it scores of one photograph no longer agree
    max_noise_sigma: float = 14.0  # 0..255, at the resolution at which methods see the face
    max_light_asymmetry_ev: float = 3.0  # stops between the halves of the face
    max_squeeze: float = 0.14  # logarithm by which a picture is wider or narrower than its subject
    max_blank_fraction: float = 0.04  # of the face's 8 x 8 blocks that hold one value
    other_face_ratio: float = 0.25  # a second face at least this large beside the largest makes "several"

    def sha256(self) -> str:
        """SHA-256 of the settings as canonical JSON."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()
