"""What every result object is made from, and what every builder hands back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from pydicom.sr.coding import Code
from pydicom.uid import (
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameSingleBitSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
)

import service
from reporting.identifiers import ResultKind, named_uid, result_uid, series_uid
from reporting.source import Source, offset_zone
from reporting.terminology import Concept
from service.marks import MANUFACTURER
from service.records import FormerRating, MethodIdentity, SavedAppraisal

__all__ = [
    "MANUFACTURER",
    "MODEL_NAME",
    "ReportContext",
    "ResultObject",
    "algorithm_parameters",
    "code",
    "device_serial_number",
    "device_uid",
    "software_versions",
]

_MULTI_FRAME = frozenset(
    {
        MultiFrameSingleBitSecondaryCaptureImageStorage,
        MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        MultiFrameTrueColorSecondaryCaptureImageStorage,
    }
)
MODEL_NAME = "Semblance"


@dataclass(frozen=True, kw_only=True)
class ReportContext:
    """One appraisal of one photograph, to be reported."""

    source: Source
    saved: SavedAppraisal
    organisation: str  # Settings.organisation
    version: int = 1  # of the photograph, counted up by corrections
    former: tuple[FormerRating, ...] = ()  # what the appraisal was rated before, the first rating first

    def as_issued(self) -> ReportContext:
        """With the rating that the appraisal had first: DICOM objects are made of it, and never change."""
        if not self.former:
            return self
        first, appraisal = self.former[0], self.saved.appraisal
        rated = replace(
            appraisal,
            method=replace(appraisal.method, calibration=first.calibration),
            rating=first.rating,
            percentile=first.percentile,
            regions=first.regions,
        )
        return replace(self, saved=replace(self.saved, appraisal=rated), former=())

    @property
    def created_at(self) -> datetime:
        """When the appraisal was made, in the zone the photograph's own times are in."""
        zone = offset_zone(self.source.identity.timezone_offset) or self.source.zone
        return self.saved.created_at.astimezone(zone)

    def instance_uid(self, kind: ResultKind) -> str:
        """SOP Instance UID of a result of this appraisal."""
        return result_uid(self.saved.appraisal.appraisal_id, kind, self.version)

    def series_uid(self, kind: ResultKind) -> str:
        """Series Instance UID: results of one kind by one method on one source series share a series."""
        identity = self.source.identity
        return series_uid(
            identity.study_instance_uid,
            identity.series_instance_uid,
            device_uid(self.saved.appraisal.method),
            kind,
        )

    @property
    def frame(self) -> int | None:
        """The frame that was appraised, the first; None for the SOP classes that have but one."""
        identity = self.source.identity
        return 1 if identity.number_of_frames > 1 and identity.sop_class_uid in _MULTI_FRAME else None

    @property
    def instance_number(self) -> int:
        """That of the photograph, so that results sort as photographs do."""
        number = self.source.identity.instance_number
        return number if number is not None and 1 <= number < 2**31 else 1


@dataclass(frozen=True, kw_only=True)
class ResultObject:
    """A finished DICOM object, as it will be sent."""

    kind: ResultKind
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    series_number: int
    series_description: str
    instance_number: int
    modality: str
    transfer_syntax_uid: str
    data: bytes  # the Part 10 file


def code(concept: Concept) -> Code:
    """A concept as pydicom and highdicom take it."""
    return Code(concept.code, concept.system.designator, concept.display)


def device_uid(method: MethodIdentity) -> str:
    """UID of the method as a device: the same for the same method, weights and settings."""
    return named_uid(
        "device",
        method.name,
        method.version,
        method.normaliser,
        method.comparator,
        method.weights_sha256,
        method.config_sha256,
        method.calibration,
    )


def device_serial_number(method: MethodIdentity) -> str:
    """What tells this method's settings and weights from others of its name, within LO's 64 characters."""
    return device_uid(method)


def software_versions(method: MethodIdentity) -> tuple[str, ...]:
    """Versions of all that made the result, each within LO's 64 characters."""
    versions = [f"semblance {service.__version__}", f"method {method.name} {method.version}"[:64]]
    if method.weights_sha256:
        versions.append(f"weights sha256 {method.weights_sha256[:32]}")
    if method.calibration:
        versions.append(f"calibration {method.calibration}"[:64])
    return tuple(versions)


def algorithm_parameters(method: MethodIdentity) -> tuple[str, ...]:
    """What else identifies the method, as ``name=value`` (TID 4019 Algorithm Parameters)."""
    return (
        f"normaliser={method.normaliser}",
        f"comparator={method.comparator}",
        f"weights_sha256={method.weights_sha256 or 'none'}",
        f"config_sha256={method.config_sha256}",
        f"calibration={method.calibration or 'none'}",
    )
