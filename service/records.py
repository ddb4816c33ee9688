"""Frozen records and closed sets that cross modules."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Final
from uuid import UUID


class InstanceState(StrEnum):
    """Where a received photograph is in the pipeline."""

    RECEIVED = "received"  # stored and committed, not yet appraised
    APPRAISED = "appraised"  # an Appraisal row exists (appraised or rejected)
    REPORTED = "reported"  # result objects and FHIR resources saved
    DELIVERED = "delivered"  # every delivery done (or none was due)
    DEAD = "dead"  # gave up; traceback in the dead_letter row
    KEPT = "kept"  # not a photograph of a patient: a result of ours, a picture that a system made
    WITHDRAWN = "withdrawn"  # a rejection note took it back: it is hidden, and so are its results


class LedgerEvent(StrEnum):
    """What can happen to an instance; the ledger is append-only."""

    ASSOCIATED = "associated"  # an association was accepted; of no instance
    REFUSED = "refused"
    RECEIVED = "received"
    RECEIVED_AGAIN = "received-again"
    QUARANTINED = "quarantined"
    CORRECTED = "corrected"  # other bytes are the photograph's new version
    QUARANTINE_ENDED = "quarantine-ended"  # somebody decided what becomes of an object in quarantine
    APPRAISED = "appraised"
    REJECTED = "rejected"
    RERATED = "re-rated"  # by another calibration; the score is as before
    KEPT = "kept"  # and not appraised: see service.pipeline.origin
    WITHDRAWN = "withdrawn"  # a rejection note took a photograph, or a result of it, back
    RESULT_WITHDRAWN = "result-withdrawn"  # somebody took a result back, with the reason; of no instance
    NOTE_TAKEN = "note-taken"  # a rejection note came; of no instance
    NOTE_LIFTED = "note-lifted"  # somebody said that it counts no more; of no instance
    RESTORED = "restored"  # a photograph, or results of it, that a lifted note had taken back come again
    REPORTED = "reported"
    DELIVERED = "delivered"
    DELIVERY_FAILED = "delivery-failed"
    COMMITTED = "committed"
    RETRIED = "retried"
    DEAD = "dead"
    QUERIED = "queried"  # somebody asked what is held; of no instance
    RETRIEVED = "retrieved"  # sent to somebody who asked for it
    MISSING = "missing"  # announced by its sender, and not received in time
    PATIENTS_MIXED = "patients-mixed"  # a study holds photographs of several patients; of no instance
    PATIENTS_SORTED = "patients-sorted"  # and no longer does
    PATIENT_LINKED = "patient-linked"  # another Patient stands for one; of no instance
    PATIENT_UNLINKED = "patient-unlinked"  # a Patient stands for itself again
    VIEWED = "viewed"  # somebody looked at a photograph, or at a patient's, on a page or by a command
    SEARCHED = "searched"  # somebody looked for photographs or results; of no instance
    ACTED = "acted"  # somebody decided or did something, by a page or a command; of no instance, or of one
    EXPORTED = "exported"  # somebody took results away, by a page or a command; of no instance
    LOGGED_IN = "logged-in"  # a person to the dashboard, or a client that got a token of the API
    LOGGED_OUT = "logged-out"
    LOGIN_REFUSED = "login-refused"
    SETTING_CHANGED = "setting-changed"  # a process starts with another value than before; of no instance


class DeliveryState(StrEnum):
    """Where one result object is on its way to one destination."""

    PENDING = "pending"
    DELIVERED = "delivered"
    COMMITTED = "committed"
    DEAD = "dead"


class BreakerState(StrEnum):
    """Whether a destination is sent to (circuit breaker)."""

    CLOSED = "closed"  # it is
    OPEN = "open"  # it failed too often in a row and is left alone for a while
    HALF_OPEN = "half-open"  # one delivery is let through to find out


class StudyState(StrEnum):
    """Whether more photographs of a study are expected."""

    OPEN = "open"  # photographs still come, or some that were announced are missing
    COMPLETE = "complete"  # all that the sender's storage commitment requests name are here
    INCOMPLETE = "incomplete"  # some of those did not come in time
    QUIET = "quiet"  # nothing was announced, and nothing came for a while


class AppraisalStatus(StrEnum):
    """Whether the photograph could be judged."""

    APPRAISED = "appraised"
    REJECTED = "rejected"


class RejectionReason(StrEnum):
    """Why a photograph was not judged; every one is a code of our CodeSystem."""

    UNDECODABLE = "undecodable"
    UNSUPPORTED = "unsupported"
    NO_FACE = "no-face"
    SEVERAL_FACES = "several-faces"
    FACE_TOO_SMALL = "face-too-small"
    FACE_CUT_OFF = "face-cut-off"
    BLURRED = "blurred"
    UNDEREXPOSED = "underexposed"
    OVEREXPOSED = "overexposed"
    YAW = "yaw"
    PITCH = "pitch"
    COMPRESSED = "compressed"
    NOISY = "noisy"
    UNEVEN_LIGHT = "uneven-light"
    OCCLUDED = "occluded"  # too little of the face is left to judge
    TURNED = "turned"  # the photograph lies on its side or stands on its head
    SQUEEZED = "squeezed"  # the picture is wider or narrower than what was photographed
    DAMAGED = "damaged"  # pieces of the picture are missing


class ExclusionReason(StrEnum):
    """Why a region of a judged photograph has no score; every one is a code of our CodeSystem."""

    OCCLUDED = "occluded"  # something lies before it
    CUT_OFF = "cut-off"  # outside the picture
    NO_REFERENCE = "no-reference"  # the method has nothing to compare it with


class PictureEncoding(StrEnum):
    """How the picture of an appraisal is encoded."""

    JPEG = "jpeg"  # baseline, for everybody
    PNG = "png"  # without loss, for destinations that want it so


class Region(StrEnum):
    """Regions of the face with a score of their own."""

    FACE = "face"
    LEFT_EYE = "left-eye"  # the patient's left
    RIGHT_EYE = "right-eye"
    NOSE = "nose"
    UPPER_LIP = "upper-lip"
    LOWER_LIP = "lower-lip"
    ORONASAL = "oronasal"  # oral and nasal region of paper 000
    LEFT_CHEEK = "left-cheek"
    RIGHT_CHEEK = "right-cheek"
    CHIN = "chin"
    FOREHEAD = "forehead"


@dataclass(frozen=True, kw_only=True)
class RegionScore:
    """The score of one region."""

    region: Region
    score: float | None  # s(D), eq. (3) of paper 000, over the region; None when nothing was judged
    z: float | None  # standard deviations above the normal cohort; higher = more anomalous
    judged: float  # fraction of the region's pixels that were judged, 0..1
    reason: ExclusionReason | None = None  # why there is no score; None when there is one
    occluded: float = 0.0  # fraction of the region that something lies before, 0..1


@dataclass(frozen=True, kw_only=True)
class QualityMeasures:
    """What the quality gates measured; None where it could not be measured."""

    faces: int | None = None  # faces found
    inter_ocular_px: float | None = None  # distance of the eye centres, photograph pixels
    sharpness: float | None = None  # variance of the Laplacian at fixed inter-ocular distance
    mean_luminance: float | None = None  # 0..255 over the face
    clipped_fraction: float | None = None  # face pixels at 0 or 255 in luminance, 0..1
    yaw_deg: float | None = None  # positive: to the patient's left
    pitch_deg: float | None = None  # positive: up
    roll_deg: float | None = None  # positive: anticlockwise in the picture
    blockiness: float | None = None  # JPEG 8x8 blockiness, >= 0
    noise_sigma: float | None = None  # 0..255 scale
    jpeg_quality: float | None = None  # of libjpeg, 1..100, of the last compression on the picture's own grid
    blur_percent: float | None = None  # sigma of the blur, percent of the inter-ocular distance
    exposure_ev: float | None = None  # stops of the face's median luminance over 18 % grey
    light_asymmetry_ev: float | None = None  # stops; positive: the patient's left is brighter
    occluded_fraction: float | None = None  # of the face, 0..1; None when the method does not look for it


OF_RATINGS: Final = "-ratings-"  # in the versions of calibrations that rest on people's ratings


@dataclass(frozen=True, kw_only=True)
class MethodIdentity:
    """Which method, weights and settings made a result; two results compare only if these agree."""

    name: str  # e.g. "symmetry"
    version: str  # of the method's code, e.g. "1"
    normaliser: str  # key in NORMALISERS
    comparator: str  # key in COMPARATORS
    weights_sha256: str  # of the model files used, in manifest order; "" when none
    config_sha256: str  # of the appraisal settings
    calibration: str  # version of the calibration; "" when none

    @property
    def rating_basis(self) -> str:
        """What the rating rests on, in words; "" of a method without a calibration, which rates nothing."""
        if not self.calibration:
            return ""
        if OF_RATINGS in self.calibration:
            return "calibrated on the site's human ratings"
        return "calibrated on computed scores, not on human ratings"

    @property
    def phase(self) -> str:
        """Digest of method, weights and settings: scores compare only where it agrees.

        Of the calibration it takes no notice: that changes what a score is called, not the score.
        """
        return _phase_of(
            self.name,
            self.version,
            self.normaliser,
            self.comparator,
            self.weights_sha256,
            self.config_sha256,
        )


@lru_cache(maxsize=256)
def _phase_of(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Appraisal:
    """The outcome for one photograph by one method."""

    appraisal_id: UUID  # UUIDv5, see service.appraisal.appraiser.appraisal_id
    sop_instance_uid: str  # of the source; "" for a plain file
    pixel_sha256: str  # of the decoded sRGB pixels
    method: MethodIdentity
    status: AppraisalStatus
    reasons: tuple[RejectionReason, ...]  # empty when appraised
    score: float | None  # of the whole face, eq. (3) of paper 000 or more; higher = more normal
    rating: float | None  # calibrated 1 (least) .. 7 (most normal)
    percentile: float | None  # 0..100 against the normal cohort
    regions: tuple[RegionScore, ...]
    quality: QualityMeasures
    warnings: tuple[str, ...] = ()  # regions left out and why, fallbacks that were asked for


@dataclass(frozen=True, kw_only=True)
class FormerRating:
    """What an appraisal was rated before, by another calibration than now."""

    calibration: str
    rating: float | None
    percentile: float | None
    regions: tuple[RegionScore, ...]


@dataclass(frozen=True, kw_only=True)
class Instance:
    """A photograph received and kept."""

    instance_id: int
    sop_instance_uid: str
    sop_class_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    patient_id: str  # "" when the photograph has none
    issuer_of_patient_id: str
    calling_ae_title: str
    called_ae_title: str
    peer_address: str
    sha256: str  # of the stored Part 10 file; key in the store
    size_bytes: int
    state: InstanceState
    received_at: datetime  # aware
    version: int = 1  # counted up by corrections


@dataclass(frozen=True, kw_only=True)
class NewInstance:
    """What intake hands to the database; see Instance for the fields."""

    sop_instance_uid: str
    sop_class_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    patient_id: str
    issuer_of_patient_id: str
    calling_ae_title: str
    called_ae_title: str
    peer_address: str
    sha256: str
    size_bytes: int
    association_id: str = ""  # by which it came; "" when by none
    remarks: str = ""  # what of it is not as it should be, and was borne; for the ledger


class Receipt(StrEnum):
    """What intake made of an offered instance."""

    NEW = "new"
    AGAIN = "again"  # same UID, same bytes
    QUARANTINED = "quarantined"  # same UID, different bytes
    CORRECTED = "corrected"  # same UID, same pixels, another header: a new version
    REJECTED = "rejected"  # a rejection note took it back before


@dataclass(frozen=True, kw_only=True)
class LedgerEntry:
    """One line of an instance's history."""

    ledger_id: int
    instance_id: int | None  # None for a refusal
    sop_instance_uid: str
    event: LedgerEvent
    at: datetime
    detail: Mapping[str, str]  # ids and reasons, never patient data


@dataclass(frozen=True, kw_only=True)
class SavedAppraisal:
    """An Appraisal with what was kept beside it."""

    instance_id: int
    appraisal: Appraisal
    # Of the picture: a JPEG that its Secondary Capture holds, of old ones a PNG in the store; "" if rejected.
    heatmap_sha256: str
    difference_map_sha256: str  # see service.pictures.native_map, in the store; "" when rejected
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One result object for one destination."""

    delivery_id: int
    instance_id: int
    appraisal_id: UUID
    destination: str  # name in Settings.destinations
    sop_class_uid: str
    sop_instance_uid: str  # of the result object
    sha256: str  # key in the store
    state: DeliveryState
    attempts: int
    next_attempt_at: datetime
    last_error: str


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """Work that was given up."""

    instance_id: int
    sop_instance_uid: str
    step: str
    error: str
    traceback: str
    at: datetime
