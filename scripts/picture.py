"""Make docs/images/heatmap.png: a public-domain portrait, a synthetic droop of it, and its heatmap.

The portrait is scikit-image's ``astronaut`` (NASA, public domain).
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from skimage import data

from service.appraisal.anomalies import NAMED, Canvas, render
from service.appraisal.appraiser import Appraiser
from service.appraisal.face.finder import MediapipeFaceFinder
from service.appraisal.photograph.decode import photograph_from_rgb
from service.config import load_settings

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "images" / "heatmap.png"
SEVERITY = 1.0
CROP = (slice(15, 235), slice(112, 332))  # rows, columns of the portrait
ENLARGED = 2
GAP = 12  # px between the pictures


def changed(portrait: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The portrait with one corner of the mouth drooping.

    Args:
        portrait: (H, W, 3) uint8, sRGB.
    """
    (face,) = MediapipeFaceFinder().find(portrait)
    canvas = Canvas(
        image=portrait, landmarks=face.landmarks.astype(np.float32)[:, :2], unit=float(face.inter_ocular_px)
    )
    return render(portrait, NAMED["droop"](canvas, SEVERITY, np.random.default_rng(3))).image


def heatmap(photograph: npt.NDArray[np.uint8], method: str) -> npt.NDArray[np.uint8]:
    """The program's heatmap of a photograph, with its colour bar.

    Args:
        photograph: (H, W, 3) uint8, sRGB.
        method: Key in METHODS.
    """
    appraised = Appraiser(method).appraise(photograph_from_rgb(photograph))
    if appraised.maps is None:
        raise SystemExit(f"rejected: {appraised.appraisal.reasons}")
    sys.stdout.write(f"score {appraised.appraisal.score:.3f}, rating {appraised.appraisal.rating}\n")
    return appraised.maps.heatmap()


def main() -> int:
    """Write the picture; exit status."""
    method = load_settings().method
    portrait = cv2.resize(
        data.astronaut()[CROP], None, fx=ENLARGED, fy=ENLARGED, interpolation=cv2.INTER_CUBIC
    )
    drooping = changed(portrait)
    pictures = [heatmap(portrait, method), drooping, heatmap(drooping, method)]
    height = max(picture.shape[0] for picture in pictures)
    gap = np.full((height, GAP, 3), 255, np.uint8)
    row = np.concatenate([pictures[0], gap, pictures[1], gap, pictures[2]], axis=1)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    small = cv2.resize(row, None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(PICTURE), cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
    return 0


if __name__ == "__main__":
    sys.exit(main())
