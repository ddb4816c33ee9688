"""What unit tests of arrays, faces and networks share.

One face finder for the session: loading it costs more than using it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from service.appraisal.face.alignment import AlignedFace, align
from service.appraisal.face.finder import Face, MediapipeFaceFinder
from service.appraisal.photograph.decode import Photograph, photograph_from_rgb
from tests.unit.appraisal.photographs import portrait


@pytest.fixture
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: small networks are slower on several, and sums differ."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def finder() -> MediapipeFaceFinder:
    found = MediapipeFaceFinder()
    found.load()
    return found


@pytest.fixture(scope="session")
def photograph() -> Photograph:
    return photograph_from_rgb(portrait())


@pytest.fixture(scope="session")
def face(finder: MediapipeFaceFinder, photograph: Photograph) -> Face:
    return finder.find(photograph.rgb)[0]


@pytest.fixture(scope="session")
def aligned(photograph: Photograph, face: Face) -> AlignedFace:
    return align(photograph, face, 256)
