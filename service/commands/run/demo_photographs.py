"""The demonstration's two photographs: a face, and the same face with a synthetic droop.

``python -m service.commands.run.demo_photographs DIRECTORY``: a process of its own, because the face finder's
native code writes to standard error, and the command, which starts it, does without the science. The face
is scikit-image's ``astronaut`` (NASA, public domain).
"""

from __future__ import annotations

import sys
from pathlib import Path

from service.errors import PhotographError

ANOMALY = "droop"
_SEVERITY = 1.0  # the most the type is made for
_SEED = 1


def photograph_paths(directory: Path) -> dict[str, Path]:
    """Name the files ``make_photographs`` writes."""
    return {name: directory / f"{name}.png" for name in ("original", ANOMALY)}


def make_photographs(directory: Path) -> dict[str, Path]:
    """Write both photographs as PNG.

    Args:
        directory: Made if it is not there.

    Returns:
        Path by name: "original" and the anomaly's.

    Raises:
        PhotographError: No face is found in the original.
    """
    import numpy as np
    from PIL import Image
    from skimage.data import astronaut

    from service.appraisal.anomalies import NAMED, Canvas, render
    from service.appraisal.face.finder import MediapipeFaceFinder

    original = np.asarray(astronaut(), dtype=np.uint8)  # type: ignore[no-untyped-call]
    faces = MediapipeFaceFinder().find(original)
    if not faces:
        raise PhotographError("no face is found in the demonstration's photograph")
    face = faces[0]
    canvas = Canvas(
        image=original,
        landmarks=np.asarray(face.landmarks[:, :2], dtype=np.float32),
        unit=float(face.inter_ocular_px),
    )
    changed = render(original, NAMED[ANOMALY](canvas, _SEVERITY, np.random.default_rng(_SEED))).image
    directory.mkdir(parents=True, exist_ok=True)
    paths = photograph_paths(directory)
    for name, picture in (("original", original), (ANOMALY, changed)):
        Image.fromarray(picture).save(paths[name])
    return paths


if __name__ == "__main__":
    make_photographs(Path(sys.argv[1]))
