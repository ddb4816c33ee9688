"""From a photograph to an Appraisal: decode, find the face, gate, align, normalise, compare, score."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray

from service.appraisal.batching import Batching
from service.appraisal.calibration import Calibration, scale_of
from service.appraisal.face.alignment import AlignedFace, align
from service.appraisal.face.finder import Face, FaceFinder, MediapipeFaceFinder
from service.appraisal.face.regions import region_masks
from service.appraisal.face.upright import upright, way_back
from service.appraisal.gates.occlusion import (
    Occlusion,
    OcclusionFinder,
    excluded_regions,
    exclusion_notes,
    load_occlusion_calibration,
    without_cover,
)
from service.appraisal.gates.quality import check_quality
from service.appraisal.memory import keep_freed_memory
from service.appraisal.model_files.models import ModelStore
from service.appraisal.photograph.decode import Photograph, photograph_from_bytes
from service.appraisal.pictures.colour_scale import ColourScale
from service.appraisal.pictures.compose import LONG_SIDE, Judged, heatmap, triptych
from service.appraisal.pictures.layout import Label
from service.appraisal.pictures.placing import photograph_map, to_sent
from service.appraisal.registry import COMPARATORS, NORMALISERS, find_method, identify
from service.appraisal.score import region_scores, score
from service.appraisal.settings import AppraisalSettings
from service.appraisal.site import at_site, calibration_of, with_calibration
from service.appraisal.tables import (
    Compared,
    LayeredComparator,
    Normalised,
    Normaliser,
    Progress,
    Workplace,
    compare_all,
    lookup,
    unwatched,
)
from service.errors import ConfigurationError, PhotographError, UnsupportedPhotographError
from service.pictures.encode import encode_jpeg
from service.pictures.native_map import NativeMap
from service.records import (
    Appraisal,
    AppraisalStatus,
    MethodIdentity,
    QualityMeasures,
    Region,
    RejectionReason,
)

DECODED_SIDE = 1_920  # px; the longer side of a photograph is not decoded to less
LEAST_DECODED_IOD_PX = 160.0  # iris distance under which a photograph is decoded in full
GPU_BATCH = 16  # faces in a forward pass on a GPU
BATCH = 4  # photographs commands appraise together: with a 1,024 px generator, what a small GPU holds
_COUNTERPART_QUALITY = 95  # of JPEG
_NAMESPACE = UUID("0d9c4a06-8f3b-5c1e-9a57-4be2d1c7f630")


@dataclass(frozen=True, kw_only=True, eq=False)
class AppraisalMaps:
    """The pictures of one appraisal; what is drawn or enlarged is so when somebody asks for it."""

    aligned: NDArray[np.uint8]  # (S, S, 3) uint8, sRGB: the face in the canonical square
    normalised: NDArray[np.uint8]  # (S, S, 3) uint8, sRGB: its normal counterpart; itself where there is none
    difference_aligned: NDArray[np.float32]  # (S, S) float32, NaN where nothing was judged
    face: AlignedFace  # the face in the canonical square, with the way back
    judged: AlignedFace  # the same as the method saw it: what lay before it replaced
    counterpart: Normalised  # what the normaliser made of it; its own class tells how
    scale: ColourScale  # what the colours of its pictures mean
    label: Label  # what their legend says of the method

    @cached_property
    def native(self) -> NativeMap:
        """The difference map as it is kept, with the way to the photograph as sent."""
        photograph = self.face.photograph
        rows, columns = photograph.sent_height, photograph.sent_width
        back = way_back(photograph.quarters, rows, columns)[:2]
        to_turned = np.vstack([to_sent(self.face.to_photograph, photograph.reduction), [0.0, 0.0, 1.0]])
        if photograph.quarters % 2:
            rows, columns = columns, rows
        return NativeMap(
            difference=self.difference_aligned,
            to_photograph=back @ to_turned,
            rows=rows,
            columns=columns,
            counterpart=b""
            if self.counterpart.refusal
            else encode_jpeg(self.normalised, _COUNTERPART_QUALITY),
        )

    @cached_property
    def difference(self) -> NDArray[np.float32]:
        """The map in the photograph's own rows and columns, (H, W) float32, NaN where nothing was judged."""
        return photograph_map(self.native)

    def heatmap(self, long_side: int = LONG_SIDE) -> NDArray[np.uint8]:
        """The difference over the photograph, with its legend; see ``service.appraisal.pictures.compose``."""
        return heatmap(self._judged(), long_side)

    def triptych(self, long_side: int = LONG_SIDE) -> NDArray[np.uint8]:
        """Face, normal counterpart and heatmap side by side; see ``service.appraisal.pictures.compose``."""
        return triptych(self._judged(), long_side)

    def _judged(self) -> Judged:
        return Judged(
            photograph=self.face.photograph.rgb,
            difference=self.difference_aligned,
            to_photograph=self.face.to_photograph,
            counterpart=None if self.counterpart.refusal else self.normalised,
            scale=self.scale,
            label=self.label,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Appraised:
    """An appraisal with its pictures; none when the photograph was rejected or they were not asked for."""

    appraisal: Appraisal
    maps: AppraisalMaps | None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Accepted:
    """A face that passed the gates."""

    face: AlignedFace
    quality: QualityMeasures
    occlusion: Occlusion | None = None  # None when the method does not look for it

    @cached_property
    def bare(self) -> AlignedFace:
        """The face as methods see it: what lies before it replaced and marked as outside."""
        return self.face if self.occlusion is None else without_cover(self.face, self.occlusion)


def appraisal_id(sop_instance_uid: str, pixel_sha256: str, method: MethodIdentity) -> UUID:
    """Return the UUIDv5 of source, pixels and method: the same appraisal always has the same id."""
    return uuid5(_NAMESPACE, "|".join((sop_instance_uid, pixel_sha256, *map(str, astuple(method)))))


class Appraiser:
    """Appraises photographs by one method; loads its models once."""

    def __init__(
        self,
        method: str,
        *,
        settings: AppraisalSettings | None = None,
        store: ModelStore | None = None,
        device: str = "auto",
        face_finder: FaceFinder | None = None,
        occlusion_finder: OcclusionFinder | None = None,
        normaliser: Normaliser | None = None,
        size: int | None = None,
        calibration: str | None = None,
        progress: Progress = unwatched,
        batching: Batching | None = None,
    ) -> None:
        """Build the method.

        Args:
            method: Key in METHODS, or "normaliser+comparator".
            settings: Thresholds of the quality gates.
            store: Where model files are found.
            device: "auto", "cpu" or "cuda".
            face_finder: Finds faces and landmarks.
            occlusion_finder: Finds what lies before faces; the method's own otherwise, if it has one.
            normaliser: Makes the normal counterparts: the method's own, built before; None builds it.
            size: Side of the canonical square for an uncalibrated pair; the method's own otherwise.
            calibration: Version of one of the calibrations stored for the method; None takes the
                method's, or the site's in its place.
            progress: Called by a normaliser that takes long, with steps done and in all.
            batching: How forward passes are put together; None: each face alone on a CPU, with up to
                GPU_BATCH others on a GPU.

        Raises:
            UnknownMethodError: No such method.
            ModelError: A model file it needs is missing or wrong.
            ConfigurationError: Its calibration is missing or malformed, or there is no such one.
        """
        keep_freed_memory()
        self._settings = settings or AppraisalSettings()
        store = store or ModelStore()
        self._calibration: Calibration | None
        if calibration is None:
            row = at_site(find_method(method), store)
            self._calibration = calibration_of(row, store)
        else:
            row, self._calibration = with_calibration(find_method(method), calibration, store)
        if size is not None and not row.calibration:
            row = replace(row, size=size)
        self._size, self._fine = row.size, row.fine
        self.identity = identify(row, self._settings, store)
        first = lookup(NORMALISERS, row.normaliser, "normaliser")
        second = lookup(COMPARATORS, row.comparator, "comparator")
        needs_models = bool(first.models or second.models or row.occlusion)
        picked = _picked(device) if needs_models else "cpu"
        place = Workplace(
            store=store,
            device=picked,
            size=row.size,
            progress=progress,
            batching=batching or Batching(size=GPU_BATCH if picked == "cuda" else 1),
        )
        self._normaliser = normaliser or first.build(place)
        self._comparator = second.build(place)
        self._gate = occlusion_finder
        if occlusion_finder is None and row.occlusion:
            self._gate = _occlusion_gate(row.occlusion, place)
        self._finder = face_finder or MediapipeFaceFinder()

    def load(self) -> None:
        """Load the face models now rather than with the first photograph."""
        self._finder.load()

    def layered(self) -> LayeredComparator:
        """Return the method's comparator, which can tell differences by their scale.

        Raises:
            ConfigurationError: It cannot.
        """
        if not isinstance(self._comparator, LayeredComparator):
            raise ConfigurationError(
                f"method {self.identity.name} has no maps by layer; pairs with deep-* and lpips-* have"
            )
        return self._comparator

    def layer_differences(self, maps: AppraisalMaps) -> tuple[NDArray[np.float32], ...]:
        """Return what an appraisal's comparator saw layer by layer: small differences first (Fig. 5).

        Returns:
            One (S, S) float32 a layer, NaN where nothing was judged.

        Raises:
            ConfigurationError: The method's comparator has no layers.
        """
        judged = np.isfinite(maps.difference_aligned)
        found = self.layered().compare_layers(maps.judged, maps.counterpart)
        return tuple(np.where(judged, part, np.float32(np.nan)).astype(np.float32) for part in found)

    def appraise_bytes(self, data: bytes, *, sop_instance_uid: str = "") -> Appraised:
        """Appraise a DICOM Part 10 file or an image file; what cannot be decoded is a rejection.

        A JPEG is decoded at a half or a quarter of its size where the face is still larger than methods
        see it; where it is not, or none is found, the whole picture is looked at.
        """
        try:
            photograph = photograph_from_bytes(data, least_side=DECODED_SIDE)
            faces = self._finder.find(photograph.rgb)
            if photograph.reduction > 1 and not _large_enough(faces):
                photograph = photograph_from_bytes(data)
                faces = self._finder.find(photograph.rgb)
        except PhotographError as exc:
            unsupported = isinstance(exc, UnsupportedPhotographError)
            reason = RejectionReason.UNSUPPORTED if unsupported else RejectionReason.UNDECODABLE
            return self.reject(data, reason, str(exc), sop_instance_uid=sop_instance_uid)
        uid = sop_instance_uid or photograph.sop_instance_uid
        return self._appraise_found([(replace(photograph, sop_instance_uid=uid), faces)])[0]

    def reject(
        self, data: bytes, reason: RejectionReason, detail: str, *, sop_instance_uid: str = ""
    ) -> Appraised:
        """Return the rejection of a photograph that could not be decoded, identified by its file's bytes."""
        digest = hashlib.sha256(data).hexdigest()
        rejected = self._rejection(sop_instance_uid, digest, (reason,), QualityMeasures(), (detail,))
        return Appraised(appraisal=rejected, maps=None)

    def appraise(self, photograph: Photograph, *, sop_instance_uid: str = "") -> Appraised:
        """Appraise one photograph."""
        uid = sop_instance_uid or photograph.sop_instance_uid
        return self.appraise_batch([replace(photograph, sop_instance_uid=uid)])[0]

    def appraise_batch(self, photographs: Sequence[Photograph], *, with_maps: bool = True) -> list[Appraised]:
        """Appraise several photographs, forward passes together; the results keep their order.

        Args:
            photographs: What to appraise.
            with_maps: Whether to make the pictures too; scores alone are faster.
        """
        found = [(photograph, self._finder.find(photograph.rgb)) for photograph in photographs]
        return self._appraise_found(found, with_maps=with_maps)

    def _appraise_found(
        self, found: Sequence[tuple[Photograph, tuple[Face, ...]]], *, with_maps: bool = True
    ) -> list[Appraised]:
        """Appraise photographs whose faces were found."""
        results: list[Appraised | None] = [None] * len(found)
        waiting: list[tuple[int, _Accepted]] = []
        for index, (sent, seen) in enumerate(found):
            photograph, faces = upright(self._finder, sent, seen)
            quality, reasons = check_quality(photograph, faces, self._settings)
            if reasons:
                results[index] = self._refused(photograph, reasons, quality)
            else:
                face = align(photograph, faces[0], self._size, fine=self._fine)
                accepted = _Accepted(face=face, quality=quality)
                waiting.append((index, accepted))
        waiting = self._uncovered(waiting, results)
        faces_in = [accepted.bare for _, accepted in waiting]
        normalised = self._normaliser.normalise(faces_in) if faces_in else []
        compared = compare_all(self._comparator, faces_in, normalised) if faces_in else []
        for (index, accepted), other, found_there in zip(waiting, normalised, compared, strict=True):
            results[index] = self._conclude(accepted, other, found_there, with_maps=with_maps)
        return [result for result in results if result is not None]

    def _uncovered(
        self, waiting: Sequence[tuple[int, _Accepted]], results: list[Appraised | None]
    ) -> list[tuple[int, _Accepted]]:
        """Say of each face what lies before it; refuse those of which too little is left."""
        if self._gate is None:
            return list(waiting)
        left = []
        found = self._gate.find([accepted.face for _, accepted in waiting])
        for (index, accepted), occlusion in zip(waiting, found, strict=True):
            quality = replace(accepted.quality, occluded_fraction=occlusion.shares[Region.FACE])
            if occlusion.too_much:
                reasons = (RejectionReason.OCCLUDED,)
                results[index] = self._refused(accepted.face.photograph, reasons, quality)
            else:
                left.append((index, replace(accepted, quality=quality, occlusion=occlusion)))
        return left

    def _refused(
        self, photograph: Photograph, reasons: tuple[RejectionReason, ...], quality: QualityMeasures
    ) -> Appraised:
        uid, digest = photograph.sop_instance_uid, photograph.pixel_sha256
        rejected = self._rejection(uid, digest, reasons, quality, photograph.warnings)
        return Appraised(appraisal=rejected, maps=None)

    def _conclude(
        self, accepted: _Accepted, other: Normalised, compared: Compared, *, with_maps: bool
    ) -> Appraised:
        face, photograph = accepted.face, accepted.face.photograph
        masks = region_masks(face.landmarks, (face.size, face.size))
        seen = masks[Region.FACE] & accepted.bare.inside
        judged = seen & other.valid & np.isfinite(compared.difference)
        excluded = excluded_regions(masks, face.inside, accepted.occlusion)
        aligned_map = np.where(judged, compared.difference, np.float32(np.nan)).astype(np.float32)
        by_map = compared.whole is None or not judged.any()
        value = score(aligned_map, masks[Region.FACE]) if by_map else compared.whole
        calibration = self._calibration
        rated = value if calibration is not None else None
        appraisal = Appraisal(
            appraisal_id=appraisal_id(photograph.sop_instance_uid, photograph.pixel_sha256, self.identity),
            sop_instance_uid=photograph.sop_instance_uid,
            pixel_sha256=photograph.pixel_sha256,
            method=self.identity,
            status=AppraisalStatus.APPRAISED,
            reasons=(),
            score=value,
            rating=calibration.rating(rated) if calibration and rated is not None else None,
            percentile=calibration.percentile(rated) if calibration and rated is not None else None,
            regions=region_scores(
                aligned_map,
                masks,
                calibration,
                whole=compared.whole,
                excluded=excluded,
                occluded=accepted.occlusion.shares if accepted.occlusion else None,
            ),
            quality=accepted.quality,
            warnings=photograph.warnings + other.notes + exclusion_notes(excluded),
        )
        if not with_maps:
            return Appraised(appraisal=appraisal, maps=None)
        maps = AppraisalMaps(
            aligned=face.rgb,
            normalised=other.rgb,
            difference_aligned=aligned_map,
            face=face,
            judged=accepted.bare,
            counterpart=other,
            scale=scale_of(calibration, aligned_map),
            label=Label(method=self.identity.name, version=_version_label(self.identity)),
        )
        return Appraised(appraisal=appraisal, maps=maps)

    def _rejection(
        self,
        sop_instance_uid: str,
        pixel_sha256: str,
        reasons: tuple[RejectionReason, ...],
        quality: QualityMeasures,
        notes: tuple[str, ...],
    ) -> Appraisal:
        return Appraisal(
            appraisal_id=appraisal_id(sop_instance_uid, pixel_sha256, self.identity),
            sop_instance_uid=sop_instance_uid,
            pixel_sha256=pixel_sha256,
            method=self.identity,
            status=AppraisalStatus.REJECTED,
            reasons=reasons,
            score=None,
            rating=None,
            percentile=None,
            regions=(),
            quality=quality,
            warnings=notes,
        )


def _large_enough(faces: Sequence[Face]) -> bool:
    """Whether a face holds more than methods see, which is 92 px between the irises."""
    return bool(faces) and faces[0].inter_ocular_px >= LEAST_DECODED_IOD_PX


def _version_label(method: MethodIdentity) -> str:
    version = f"version {method.version.partition('/')[0]}"
    return f"{version}, {method.calibration}" if method.calibration else f"{version}, not calibrated"


def _occlusion_gate(version: str, place: Workplace) -> OcclusionFinder:
    from service.appraisal.gates.occlusion_gate import OcclusionGate

    calibration = load_occlusion_calibration(version)
    return OcclusionGate(place.store.tensors(calibration.model), calibration, place.device, place.batching)


def _picked(device: str) -> str:
    from service.appraisal.acceleration import pick_device

    return pick_device(device)
