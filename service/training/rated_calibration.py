"""A calibration from a hospital's own ratings, put where the product finds it.

The rating becomes a function of the score by the paper's three highest and three lowest ratings
(section IV of paper 000), by isotonic regression, or by a straight line. What is normal stays what
the method's present calibration says; a method without one takes it from the photographs that
people rated as normal.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.appraisal.appraiser import BATCH, Appraiser
from service.appraisal.calibration import (
    LEAST_RATING,
    MOST_RATING,
    Calibration,
    isotonic_knots,
    linear_knots,
    map_range,
    named_by_content,
    normal_cohort,
    read_calibration,
    region_statistics,
    save_calibration,
)
from service.appraisal.face.finder import FaceFinder
from service.appraisal.model_files.models import SITE_LINE, ModelStore
from service.appraisal.photograph.decode import read_photograph
from service.appraisal.pictures.colour_scale import measure_scale
from service.appraisal.registry import COMPARATORS, NORMALISERS, Method, find_method
from service.appraisal.site import at_site, calibration_id, calibration_of, stored_id
from service.appraisal.tables import lookup
from service.errors import ConfigurationError
from service.evaluation.validation import Validation
from service.records import OF_RATINGS, Region
from service.training.cross_validation import HeldOut, held_out_agreement, people_of_names
from service.training.model_card import entry_of, put_rows

NORMAL_RATING = 6.0  # mean rating from which a photograph counts as normal
LEAST_NORMAL = 5  # photographs, for a method that has no cohort of its own
Knots = tuple[tuple[float, float], ...]


class Fit(StrEnum):
    """How the rating becomes a function of the score."""

    ANCHORS = "anchors"  # the paper's: three highest and three lowest ratings
    ISOTONIC = "isotonic"
    LINEAR = "linear"


def straight_knots(scores: Sequence[float], ratings: Sequence[float]) -> Knots:
    """Fit the rating as a straight line by least squares, from where it is 1 to where it is 7.

    Raises:
        ConfigurationError: The rating does not rise with the score.
    """
    x, y = np.asarray(scores, np.float64), np.asarray(ratings, np.float64)
    slope = float(np.cov(x, y, bias=True)[0, 1] / max(float(x.var()), 1e-12))
    if slope <= 0:
        raise ConfigurationError("the ratings do not rise with the score")
    return tuple(
        (float(x.mean() + (rating - y.mean()) / slope), rating) for rating in (LEAST_RATING, MOST_RATING)
    )


_FITS = {Fit.ANCHORS: linear_knots, Fit.ISOTONIC: isotonic_knots, Fit.LINEAR: straight_knots}


def calibrate_on_ratings(
    validation: Validation,
    method: str,
    fit: Fit,
    folder: Path,
    store: ModelStore,
    *,
    device: str = "auto",
    finder: FaceFinder | None = None,
) -> Calibration:
    """Fit a calibration; its version follows from the method, the fit and all scores and ratings.

    Args:
        validation: Of which the method was a part.
        method: Name of the method.
        fit: How the rating becomes a function of the score.
        folder: Where the photographs are.
        store: Where model files are found.
        device: "auto", "cpu" or "cuda".
        finder: Finds the faces.

    Raises:
        ConfigurationError: The method was not validated, the ratings do not rise with its score, or
            too few photographs are normal.
    """
    scored = next((one for one in validation.scores if one.method == method), None)
    if scored is None:
        raise ConfigurationError(f"method {method!r} was not among those validated")
    means = validation.ratings.means()
    pairs = [
        (score, float(mean))
        for score, mean in zip(scored.scores[Region.FACE], means, strict=True)
        if score is not None
    ]
    knots = _FITS[fit]([score for score, _ in pairs], [mean for _, mean in pairs])
    row = at_site(find_method(method), store)
    base = calibration_of(row, store)
    judged = zip(validation.ratings.photos, means, scored.scores[Region.FACE], strict=True)
    normal = [photo for photo, mean, score in judged if mean >= NORMAL_RATING and score is not None]
    cohort = base or _cohort(
        row,
        [folder / photo for photo in normal],
        lambda: Appraiser(row.name, store=store, device=device, face_finder=finder),
    )
    weights = _weights(row, store)
    rated = replace(
        cohort,
        method=method,
        method_version=find_method(method).version,
        basis=(
            f"{len(validation.ratings.raters)} people's ratings of {len(pairs)} photographs ({fit.value}); "
            f"normal cohort: {cohort.basis}"
        ),
        rating_knots=knots,
        weights_sha256=weights,
    )
    return named_by_content(rated, f"{method}{OF_RATINGS}{fit.value}")


def held_out(validation: Validation, method: str, fit: Fit) -> HeldOut:
    """Agreement of such a calibration with ratings it was not fitted to.

    Raises:
        ConfigurationError: The method was not validated, or there are too few people to leave some out.
    """
    scored = next((one for one in validation.scores if one.method == method), None)
    if scored is None:
        raise ConfigurationError(f"method {method!r} was not among those validated")
    judged = [
        (score, float(mean), photo)
        for score, mean, photo in zip(
            scored.scores[Region.FACE], validation.ratings.means(), validation.ratings.photos, strict=True
        )
        if score is not None
    ]
    return held_out_agreement(
        _FITS[fit],
        [score for score, _, _ in judged],
        [mean for _, mean, _ in judged],
        people_of_names([photo for _, _, photo in judged]),
    )


def carry_site(method: str, store: ModelStore, directory: Path) -> None:
    """Put a site's own weights, and the calibrations made for them, beside a calibration that needs them.

    Args:
        method: Name of the method.
        store: Where they are.
        directory: That SEMBLANCE_MODEL_DIR will name in its place; nothing happens where it is the same.
    """
    row = find_method(method)
    wanted = [*_models(row), calibration_id(row.name), *store.ids(stored_id(""))]
    entries = []
    for model in wanted:
        if not store.of_site(model):
            continue
        source = store.path(model)
        directory.mkdir(parents=True, exist_ok=True)
        if source.resolve().parent != directory.resolve():
            shutil.copyfile(source, directory / source.name)
            entries.append(store.entry(model))
    if entries:
        put_rows(entries, directory)


def stale_calibrations(directory: Path, method: str) -> tuple[str, ...]:
    """Versions of calibrations from ratings in a directory that were made for weights it no longer has."""
    store = ModelStore(directory)
    weights = _weights(find_method(method), store)
    kept = [read_calibration(store.path(row)) for row in store.ids(stored_id("")) if store.of_site(row)]
    return tuple(
        one.version
        for one in kept
        if one.method == method and OF_RATINGS in one.version and one.weights_sha256 != weights
    )


def install_calibration(calibration: Calibration, directory: Path) -> Path:
    """Write it with its row in the directory's manifest; SEMBLANCE_MODEL_DIR may then name that.

    Returns:
        The path of the calibration.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = save_calibration(calibration, directory)
    use = f"What the scores of {calibration.method} mean by the site's own raters."
    rows = (calibration_id(calibration.method), stored_id(calibration.version))  # in use, and to choose
    put_rows(
        [entry_of(row, path, line=SITE_LINE, licence="The site's own", intended_use=use) for row in rows],
        directory,
    )
    return path


def _cohort(
    method: Method, photographs: Sequence[Path], appraiser_of: Callable[[], Appraiser]
) -> Calibration:
    """Distribution of the scores of photographs rated as normal."""
    if len(photographs) < LEAST_NORMAL:
        raise ConfigurationError(
            f"{len(photographs)} photographs are rated {NORMAL_RATING:g} or more; {method.name} has no "
            f"normal cohort of its own and needs {LEAST_NORMAL}"
        )
    appraiser = appraiser_of()
    scores: dict[Region, list[float]] = {region: [] for region in Region}
    maps: list[NDArray[np.float32]] = []
    for start in range(0, len(photographs), BATCH):
        taken = [read_photograph(path) for path in photographs[start : start + BATCH]]
        for result in appraiser.appraise_batch(taken):
            maps += [result.maps.difference_aligned] if result.maps is not None else []
            for part in result.appraisal.regions:
                if part.score is not None:
                    scores[part.region].append(part.score)
    if len(scores[Region.FACE]) < LEAST_NORMAL:
        raise ConfigurationError(f"of the normal photographs only {len(scores[Region.FACE])} can be judged")
    return Calibration(
        version="",
        method=method.name,
        method_version=method.version,
        basis=f"the {len(maps)} photographs rated {NORMAL_RATING:g} or more",
        rating_knots=(),
        normal_quantiles=normal_cohort(scores[Region.FACE]),
        regions=region_statistics(scores),
        map_range=map_range(maps),
        colour_scale=measure_scale(maps),
    )


def _weights(method: Method, store: ModelStore) -> str:
    return store.sha256(_models(method))


def _models(method: Method) -> tuple[str, ...]:
    normaliser = lookup(NORMALISERS, method.normaliser, "normaliser")
    comparator = lookup(COMPARATORS, method.comparator, "comparator")
    return tuple(dict.fromkeys(normaliser.models + comparator.models))
