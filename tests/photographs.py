"""Photographs for tests, wrapped as DICOM objects."""

from __future__ import annotations

from functools import cache
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from skimage.data import astronaut

from dicom_node.wrap import Wrapping, wrap_photograph


@cache
def face() -> NDArray[np.uint8]:
    """A face: (512, 512, 3) uint8, sRGB."""
    return np.asarray(astronaut(), dtype=np.uint8)


def photograph(rgb: NDArray[np.uint8] | None = None) -> FileDataset:
    """A photograph with identifiers of its own; of a face unless another picture is given."""
    name = uuid4().hex
    return wrap_photograph(face() if rgb is None else rgb, Wrapping(name=name, study=name))


def undecodable() -> FileDataset:
    """A photograph whose JPEG frame is cut short."""
    dataset = photograph()
    frame = bytes(dataset.PixelData)
    dataset.PixelData = encapsulate([frame[100:2000]])
    return dataset


def faceless() -> FileDataset:
    """A photograph of nothing."""
    return photograph(np.full((256, 256, 3), 180, dtype=np.uint8))
