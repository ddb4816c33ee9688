"""What a score means by another calibration: the score stays, its rating, percentile and z do not."""

from __future__ import annotations

from dataclasses import dataclass, replace

from service.appraisal.calibration import Calibration
from service.appraisal.model_files.models import ModelStore
from service.appraisal.registry import find_method, identify
from service.appraisal.settings import AppraisalSettings
from service.appraisal.site import at_site, calibration_of
from service.errors import ConfigurationError
from service.records import Appraisal, MethodIdentity


@dataclass(frozen=True, kw_only=True)
class Rater:
    """A method with the calibration that says what its scores mean."""

    method: MethodIdentity
    calibration: Calibration | None  # None: of a method without one


def rater_of(method: str, store: ModelStore) -> Rater:
    """The rater of a method as it is in force here; loads no models.

    Args:
        method: Key in METHODS, or "normaliser+comparator".
        store: Where model files are found, the site's calibration among them.

    Raises:
        UnknownMethodError: No such method.
        ModelError: A model file that its identity needs is not in the manifest.
        ConfigurationError: Its calibration is missing or malformed.
    """
    row = at_site(find_method(method), store)
    return Rater(method=identify(row, AppraisalSettings(), store), calibration=calibration_of(row, store))


def rated(appraisal: Appraisal, rater: Rater) -> Appraisal:
    """The appraisal as this calibration rates its score: as if the photograph were appraised now.

    Args:
        appraisal: By the rater's method, weights and settings, and any calibration.
        rater: With a calibration.

    Raises:
        ConfigurationError: It was made by another method, version, weights or settings: not comparable.
    """
    calibration = rater.calibration
    if calibration is None or appraisal.method.phase != rater.method.phase:
        raise ConfigurationError(
            f"appraisal {appraisal.appraisal_id} is by {appraisal.method.name} {appraisal.method.version}: "
            f"not comparable with calibration {rater.method.calibration or 'none'}"
        )
    score = appraisal.score
    return replace(
        appraisal,
        method=replace(appraisal.method, calibration=rater.method.calibration),
        rating=None if score is None else calibration.rating(score),
        percentile=None if score is None else calibration.percentile(score),
        regions=tuple(
            replace(each, z=None if each.score is None else calibration.z(each.region, each.score))
            for each in appraisal.regions
        ),
    )
