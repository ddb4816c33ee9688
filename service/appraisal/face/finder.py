"""Finding faces and their landmarks, behind one interface.

The mesh is MediaPipe's: 468 points of the canonical face mesh and 5 around each iris
(Kartynnik et al. 2019, arXiv:1907.06724; Grishchenko et al. 2020, arXiv:2006.10962).
Left and right are the patient's.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from service.appraisal.face.mesh_mirror import mirrored
from service.appraisal.face.pose import Pose, estimate_pose

if TYPE_CHECKING:
    from mediapipe.python.solutions.face_detection import FaceDetection
    from mediapipe.python.solutions.face_mesh import FaceMesh

FINDER_VERSION = "2"  # changes whenever the landmarks do; part of every result's identity
RIGHT_IRIS, LEFT_IRIS = 468, 473
RIGHT_COMMISSURE, LEFT_COMMISSURE = 61, 291

_TILING_SIDE = 480  # px; smaller photographs are searched whole only
# Side reduced to, tiles a side, share of a tile; the finer search only when the coarser finds nothing.
_SEARCHES = ((1280, 2, 0.6), (2560, 4, 0.34))
_PANORAMA = 2.5  # times as long as wide; searched by pieces when the searches above find nothing
_PIECE = 1.5  # times as long as wide; two neighbours share half
_MOST_PIECES = 64
_LARGE_FACE = 0.2  # of the larger side; beside such a face any that counts is found without tiles
_CROP_SIDE = 448  # px; the square the mesh is fitted in
_CROP_MARGIN = 2.0  # side of that square over the detected face's
_CONFIRMED = 0.7  # overlap of the first and second fit
_TURN_SIDE = 256  # px; of the square in which it is looked whether a face stands on its head
_SAME_FACE = 0.3  # intersection over the smaller box


@dataclass(frozen=True, kw_only=True, eq=False)
class Face:
    """One face in a photograph."""

    mesh: NDArray[np.float64]  # (478, 3) float64, photograph pixels; z grows away from the camera
    pose: Pose
    upside_down: bool = False  # the detector is surer of it when the photograph is turned by half

    @property
    def landmarks(self) -> NDArray[np.float64]:
        """(478, 2) float64, x and y in photograph pixels; the centre of the first pixel is (0, 0)."""
        return self.mesh[:, :2]

    @property
    def inter_ocular_px(self) -> float:
        """Distance of the iris centres in photograph pixels."""
        return float(np.linalg.norm(self.landmarks[LEFT_IRIS] - self.landmarks[RIGHT_IRIS]))

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of the landmarks in photograph pixels."""
        low, high = self.landmarks.min(0), self.landmarks.max(0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])


class FaceFinder(Protocol):
    """Finds every face of a photograph."""

    def find(self, rgb: NDArray[np.uint8]) -> tuple[Face, ...]:
        """Return the faces, the largest first.

        Args:
            rgb: (H, W, 3) uint8, sRGB.
        """
        ...

    def load(self) -> None:
        """Load what is needed now rather than with the first photograph."""
        ...


class MediapipeFaceFinder:
    """Face finder on MediaPipe's detectors and mesh; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._detectors: tuple[FaceDetection, ...] = ()
        self._mesh: FaceMesh | None = None

    def find(self, rgb: NDArray[np.uint8]) -> tuple[Face, ...]:
        """Return the faces, the largest first: every detection the mesh confirms."""
        with self._lock:
            for search in _SEARCHES:
                faces = self._search(rgb, search)
                if faces:
                    break
            if not faces:
                turned = np.ascontiguousarray(rgb[::-1, ::-1])
                faces = [_turned(face, rgb.shape[:2]) for face in self._search(turned, _SEARCHES[0])]
            faces = faces or self._along(rgb)
        faces.sort(key=lambda face: _area(face.box), reverse=True)
        kept: list[Face] = []
        for face in faces:
            if all(_overlap(face.box, other.box) < _SAME_FACE for other in kept):
                kept.append(face)
        return tuple(kept)

    def _along(self, rgb: NDArray[np.uint8]) -> list[Face]:
        """Search a picture much longer than wide by pieces; reduced as a whole, its faces are too small."""
        for search in _SEARCHES:
            faces = []
            for left, top, piece in _pieces(rgb):
                found = self._detect(piece, search)
                boxes = _distinct([(b[0] + left, b[1] + top, b[2] + left, b[3] + top) for b in found])
                faces += [face for box in boxes if (face := self._confirm(rgb, box)) is not None]
            if faces:
                return faces
        return []

    def load(self) -> None:
        """Load the models now rather than with the first photograph."""
        self.find(np.zeros((_CROP_SIDE, _CROP_SIDE, 3), dtype=np.uint8))
        with self._lock:
            self._load().process(np.zeros((_CROP_SIDE, _CROP_SIDE, 3), dtype=np.uint8))

    def _load(self) -> FaceMesh:
        if self._mesh is None:
            from mediapipe.python.solutions.face_detection import FaceDetection
            from mediapipe.python.solutions.face_mesh import FaceMesh

            self._detectors = tuple(
                FaceDetection(model_selection=model, min_detection_confidence=0.5) for model in (0, 1)
            )
            self._mesh = FaceMesh(static_image_mode=True, max_num_faces=1, refine_landmarks=True)
        return self._mesh

    def _search(self, rgb: NDArray[np.uint8], search: tuple[int, int, float]) -> list[Face]:
        boxes = _distinct(self._detect(rgb, search))
        return [face for box in boxes if (face := self._confirm(rgb, box)) is not None]

    def _detect(self, rgb: NDArray[np.uint8], search: tuple[int, int, float]) -> list[_Box]:
        self._load()
        side, tiles, share = search
        scale = min(1.0, side / max(rgb.shape[:2]))
        small = _reduced(rgb, scale)
        # A face that fills the frame is found only with room around it.
        margin = max(small.shape[:2]) // 4
        padded = cv2.copyMakeBorder(small, margin, margin, margin, margin, cv2.BORDER_CONSTANT)
        boxes = [
            box
            for detector in self._detectors
            for box in _found(detector, np.asarray(padded, dtype=np.uint8), -margin, -margin)
        ]
        if max((box[2] - box[0] for box in boxes), default=0.0) < _LARGE_FACE * max(small.shape[:2]):
            for left, top, tile in _tiles(small, tiles, share):
                boxes += _found(self._detectors[-1], tile, left, top)
        return [(box[0] / scale, box[1] / scale, box[2] / scale, box[3] / scale) for box in boxes]

    def _confirm(self, rgb: NDArray[np.uint8], box: _Box) -> Face | None:
        """Fit twice: a face is found again, and better, around the first fit; anything else is not.

        The second fit is the mean of the picture's and its mirror image's: the mesh's network is
        not equivariant under mirroring, and everything after it aligns by this mesh.
        """
        first = self._fit(rgb, box, both_ways=False)
        second = self._fit(rgb, first.box, both_ways=True) if first is not None else None
        if first is None or second is None or _overlap(first.box, second.box) < _CONFIRMED:
            return None
        return replace(second, upside_down=self._upside_down(rgb, second.box))

    def _upside_down(self, rgb: NDArray[np.uint8], box: _Box) -> bool:
        """Whether the detector is surer of the face in the picture turned by half.

        The mesh fits an upright face onto one that stands on its head: its own roll does not tell.
        """
        side = max(box[2] - box[0], box[3] - box[1]) * _CROP_MARGIN
        x, y = (box[0] + box[2] - side) / 2, (box[1] + box[3] - side) / 2
        crop = cv2.resize(_square(rgb, x, y, side), (_TURN_SIDE, _TURN_SIDE), interpolation=cv2.INTER_AREA)
        upright, turned = (self._sureness(np.ascontiguousarray(view)) for view in (crop, crop[::-1, ::-1]))
        return turned > upright

    def _sureness(self, rgb: NDArray[np.uint8]) -> float:
        """The detector's score of its surest face, 0..1; 0 where it sees none."""
        found = self._detectors[0].process(rgb).detections or ()
        return max((float(one.score[0]) for one in found), default=0.0)

    def _fit(self, rgb: NDArray[np.uint8], box: _Box, *, both_ways: bool) -> Face | None:
        side = max(box[2] - box[0], box[3] - box[1]) * _CROP_MARGIN
        x, y = (box[0] + box[2] - side) / 2, (box[1] + box[3] - side) / 2
        crop = _square(rgb, x, y, side)
        mesh = self._mesh_of(crop)
        if mesh is not None and both_ways:
            other = self._mesh_of(np.ascontiguousarray(crop[:, ::-1]))
            mesh = None if other is None else (mesh + mirrored(other)) / 2
        if mesh is None:
            return None
        mesh *= side
        mesh[:, :2] += (x - 0.5, y - 0.5)
        return Face(mesh=mesh, pose=estimate_pose(mesh))

    def _mesh_of(self, crop: NDArray[np.uint8]) -> NDArray[np.float64] | None:
        """(478, 3) float64 in sides of the crop; None when there is no face."""
        found = self._load().process(crop).multi_face_landmarks
        if not found:
            return None
        return np.array([(p.x, p.y, p.z) for p in found[0].landmark], dtype=np.float64)


class RememberingFaceFinder:
    """Remembers the faces of pictures already searched, for several methods on the same photographs."""

    def __init__(self, finder: FaceFinder) -> None:
        self._finder = finder
        self._known: dict[int, tuple[NDArray[np.uint8], tuple[Face, ...]]] = {}

    def find(self, rgb: NDArray[np.uint8]) -> tuple[Face, ...]:
        """Return the faces, the largest first; the same array is searched once."""
        if id(rgb) not in self._known:
            self._known[id(rgb)] = (rgb, self._finder.find(rgb))
        return self._known[id(rgb)][1]

    def load(self) -> None:
        """Load what the finder behind it needs."""
        self._finder.load()

    def forget(self) -> None:
        """Let go of all pictures."""
        self._known.clear()


_Box = tuple[float, float, float, float]


def _turned(face: Face, shape: tuple[int, ...]) -> Face:
    """A face found in the picture turned by half, where it lies in the picture as it is."""
    mesh = face.mesh * np.array([-1.0, -1.0, 1.0]) + np.array([shape[1] - 1.0, shape[0] - 1.0, 0.0])
    return Face(mesh=mesh, pose=estimate_pose(mesh), upside_down=True)


def _found(detector: FaceDetection, rgb: NDArray[np.uint8], left: int, top: int) -> list[_Box]:
    """Detections in a picture whose first pixel is at (left, top)."""
    height, width = rgb.shape[:2]
    boxes: list[_Box] = []
    for found in detector.process(np.ascontiguousarray(rgb)).detections or ():
        box = found.location_data.relative_bounding_box
        x, y = left + box.xmin * width, top + box.ymin * height
        boxes.append((x, y, x + box.width * width, y + box.height * height))
    return boxes


def _tiles(rgb: NDArray[np.uint8], count: int, share: float) -> list[tuple[int, int, NDArray[np.uint8]]]:
    """Left, top and pixels of count x count overlapping tiles; none for a small picture."""
    height, width = rgb.shape[:2]
    if min(height, width) < _TILING_SIDE:
        return []
    rows, columns = int(height * share), int(width * share)
    return [
        (left, top, rgb[top : top + rows, left : left + columns])
        for top in np.linspace(0, height - rows, count).astype(int).tolist()
        for left in np.linspace(0, width - columns, count).astype(int).tolist()
    ]


def _pieces(rgb: NDArray[np.uint8]) -> list[tuple[int, int, NDArray[np.uint8]]]:
    """Left, top and pixels of overlapping pieces of a panorama; none for a picture of another shape."""
    height, width = rgb.shape[:2]
    short, long = min(height, width), max(height, width)
    if long < _PANORAMA * short:
        return []
    side = round(short * _PIECE)
    count = min(_MOST_PIECES, int(np.ceil((long - side) / (side / 2))) + 1)
    starts = np.linspace(0, long - side, count).astype(int).tolist()
    if width >= height:
        return [(start, 0, rgb[:, start : start + side]) for start in starts]
    return [(0, start, rgb[start : start + side]) for start in starts]


def _square(rgb: NDArray[np.uint8], x: float, y: float, side: float) -> NDArray[np.uint8]:
    """(_CROP_SIDE, _CROP_SIDE, 3) uint8 of the square at (x, y); black outside the photograph."""
    height, width = rgb.shape[:2]
    left, top = int(np.floor(max(x, 0))), int(np.floor(max(y, 0)))
    right, bottom = int(np.ceil(min(x + side, width))), int(np.ceil(min(y + side, height)))
    part = rgb[top : max(bottom, top + 1), left : max(right, left + 1)]
    scale = _CROP_SIDE / side
    part = _reduced(part, min(1.0, 2 * scale))
    fx, fy = part.shape[1] / (right - left), part.shape[0] / (bottom - top)
    # Pixel centres: u = (x_photograph + 0.5 - x) * scale - 0.5, with x_photograph from the part's own grid.
    matrix = np.array(
        [
            [scale / fx, 0, (0.5 / fx + left - x) * scale - 0.5],
            [0, scale / fy, (0.5 / fy + top - y) * scale - 0.5],
        ]
    )
    crop = cv2.warpAffine(part, matrix, (_CROP_SIDE, _CROP_SIDE), flags=cv2.INTER_LINEAR)
    return np.asarray(crop, dtype=np.uint8)


def _reduced(rgb: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    if scale >= 1.0:
        return rgb
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _area(box: _Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _overlap(one: _Box, other: _Box) -> float:
    """Intersection over the smaller of two boxes."""
    shared = (max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3]))
    return _area(shared) / max(1e-9, min(_area(one), _area(other)))


def _distinct(boxes: list[_Box]) -> list[_Box]:
    """Largest boxes first, without those that lie over one already kept."""
    kept: list[_Box] = []
    for box in sorted(boxes, key=_area, reverse=True):
        if _area(box) > 0 and all(_overlap(box, other) < 0.5 for other in kept):
            kept.append(box)
    return kept
