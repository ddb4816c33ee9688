"""Calibrations: what a raw score of one method means, versioned and stored as JSON.

A calibration holds, for one method and version, the rating scale (1 least to 7 most normal) as a
piecewise linear function of the score, the score's distribution in the normal cohort, and per
region its mean and standard deviation. Without human ratings the rating is anchored on normal
and on synthetically altered faces; `semblance validate` makes one from a hospital's own ratings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.appraisal.pictures.colour_scale import (
    ColourScale,
    ScaleUnit,
    relative_scale,
    scale_from_json,
    scale_to_json,
)
from service.errors import ConfigurationError
from service.records import Region

CALIBRATIONS_DIR = Path(__file__).resolve().parent / "calibrations"
LEAST_RATING, MOST_RATING = 1.0, 7.0
_QUANTILES = np.linspace(0, 100, 101)
_ANCHORS = 3  # highest and lowest ratings averaged, section IV of paper 000


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What the scores of one method mean."""

    version: str  # e.g. "symmetry-1"
    method: str  # key in METHODS
    method_version: str
    basis: str  # what it was made from, in a sentence
    rating_knots: tuple[tuple[float, float], ...]  # (score, rating), scores increasing
    normal_quantiles: tuple[float, ...]  # score at percentiles 0, 1, .. 100 of the normal cohort
    regions: Mapping[str, tuple[float, float]]  # region -> mean and SD of the score in the normal cohort
    map_range: tuple[float, float]  # differences between which normal faces spread; see ``scale_of``
    weights_sha256: str = ""  # the only weights it holds for; "" where the method and version say enough
    colour_scale: ColourScale | None = None  # of its pictures; None in those made before there was one

    def rating(self, score: float) -> float:
        """Return the rating, 1 (least) to 7 (most normal)."""
        scores, ratings = zip(*self.rating_knots, strict=True)
        return float(np.clip(np.interp(score, scores, ratings), LEAST_RATING, MOST_RATING))

    def percentile(self, score: float) -> float:
        """Return the percentage of the normal cohort that scores no higher, 0..100."""
        return float(np.interp(score, self.normal_quantiles, _QUANTILES))

    def z(self, region: Region, score: float) -> float | None:
        """Return standard deviations more anomalous than the normal cohort; None for an unknown region."""
        if region.value not in self.regions:
            return None
        mean, deviation = self.regions[region.value]
        return (mean - score) / deviation


def scale_of(calibration: Calibration | None, difference: NDArray[np.float32]) -> ColourScale:
    """What the colours of a picture mean: the same for every picture by one calibration.

    Args:
        calibration: Of the method; None makes the picture's own differences its scale.
        difference: (S, S) float32, NaN where nothing was judged.
    """
    if calibration is None:
        return relative_scale(difference)
    if calibration.colour_scale is not None:
        return calibration.colour_scale
    low, high = calibration.map_range
    return ColourScale(unit=ScaleUnit.DIFFERENCE, low=low, high=high)


def linear_knots(scores: Sequence[float], ratings: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """Anchor the rating as paper 000 does: mean score of the three highest and three lowest ratings.

    Raises:
        ConfigurationError: Too few ratings, or the anchors do not differ.
    """
    if len(scores) < 2 * _ANCHORS:
        raise ConfigurationError(f"a calibration needs at least {2 * _ANCHORS} rated photographs")
    order = np.argsort(np.asarray(ratings), kind="stable")
    values, truth = np.asarray(scores)[order], np.asarray(ratings)[order]
    low, high = float(values[:_ANCHORS].mean()), float(values[-_ANCHORS:].mean())
    if high <= low:
        raise ConfigurationError("the scores of the highest ratings are not above those of the lowest")
    return (
        (low, float(truth[:_ANCHORS].mean())),
        (high, float(truth[-_ANCHORS:].mean())),
    )


def isotonic_knots(scores: Sequence[float], ratings: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """Fit the rating as a non-decreasing function of the score (pool adjacent violators).

    Raises:
        ConfigurationError: Fewer than two different scores, or the ratings fall with the score: the fit
            would be next to constant and rate everybody alike.
    """
    from sklearn.isotonic import IsotonicRegression

    if len(set(scores)) < 2:
        raise ConfigurationError("a calibration needs at least two different scores")
    if float(np.cov(np.asarray(scores), np.asarray(ratings))[0, 1]) <= 0:
        raise ConfigurationError("the ratings do not rise with the score")
    fit = IsotonicRegression(y_min=LEAST_RATING, y_max=MOST_RATING, out_of_bounds="clip")
    fit.fit(np.asarray(scores), np.asarray(ratings))
    return tuple((float(x), float(y)) for x, y in zip(fit.X_thresholds_, fit.y_thresholds_, strict=True))


def normal_cohort(scores: Sequence[float]) -> tuple[float, ...]:
    """Return the scores at percentiles 0 to 100."""
    return tuple(float(v) for v in np.percentile(np.asarray(scores), _QUANTILES))


def region_statistics(
    scores: Mapping[Region, Sequence[float]],
) -> Mapping[str, tuple[float, float]]:
    """Return mean and standard deviation of each region's scores."""
    return {
        region.value: (float(np.mean(values)), max(float(np.std(values, ddof=1)), 1e-6))
        for region, values in scores.items()
        if len(values) >= 2
    }


def map_range(differences: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    """Return the differences at which the heatmap starts and ends: median, and half above percentile 99."""
    pooled = np.concatenate([d[np.isfinite(d)].ravel() for d in differences])
    return float(np.percentile(pooled, 50)), 1.5 * float(np.percentile(pooled, 99))


def load_calibration(version: str, directory: Path = CALIBRATIONS_DIR) -> Calibration:
    """Read a stored calibration.

    Raises:
        ConfigurationError: There is none of that version, or it is malformed.
    """
    return read_calibration(directory / f"{version}.json")


def read_calibration(path: Path) -> Calibration:
    """Read a calibration from its file.

    Raises:
        ConfigurationError: It is not there, or malformed.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return Calibration(
            version=raw["version"],
            method=raw["method"],
            method_version=raw["method_version"],
            basis=raw["basis"],
            rating_knots=tuple((float(x), float(y)) for x, y in raw["rating_knots"]),
            normal_quantiles=tuple(float(v) for v in raw["normal_quantiles"]),
            regions={name: (float(mean), float(sd)) for name, (mean, sd) in raw["regions"].items()},
            map_range=(float(raw["map_range"][0]), float(raw["map_range"][1])),
            weights_sha256=str(raw.get("weights_sha256", "")),
            colour_scale=scale_from_json(raw["colour_scale"]) if "colour_scale" in raw else None,
        )
    except (OSError, KeyError, ValueError, TypeError) as exc:
        raise ConfigurationError(f"calibration {path}: {exc!r}") from exc


def named_by_content(calibration: Calibration, name: str) -> Calibration:
    """The calibration under a version that says what is in it: two that differ never bear one name.

    Results name the version they were rated by, and are rated anew where another is in force.

    Args:
        calibration: Its version does not count.
        name: That the version begins with.
    """
    content = _content(replace(calibration, version=""))
    if calibration.colour_scale is not None:
        content["colour_scale"] = scale_to_json(calibration.colour_scale)
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return replace(calibration, version=f"{name}-{digest[:8]}")


def _content(calibration: Calibration) -> dict[str, object]:
    return {
        "version": calibration.version,
        "method": calibration.method,
        "method_version": calibration.method_version,
        "basis": calibration.basis,
        "rating_knots": [[round(v, 6) for v in knot] for knot in calibration.rating_knots],
        "normal_quantiles": [round(v, 6) for v in calibration.normal_quantiles],
        "regions": {k: [round(v, 6) for v in pair] for k, pair in calibration.regions.items()},
        "map_range": [float(f"{v:.6g}") for v in calibration.map_range],
        **({"weights_sha256": calibration.weights_sha256} if calibration.weights_sha256 else {}),
    }


def save_calibration(calibration: Calibration, directory: Path = CALIBRATIONS_DIR) -> Path:
    """Write a calibration as JSON and return its path."""
    content = _content(calibration)
    path = directory / f"{calibration.version}.json"
    text = json.dumps(content, indent=1)
    if calibration.colour_scale is not None:  # its rows on one line each
        rows = {
            name: _rows(value) if isinstance(value, list) else json.dumps(value)
            for name, value in scale_to_json(calibration.colour_scale).items()
        }
        scale = ",\n".join(f'  "{name}": {value}' for name, value in rows.items())
        text = text.removesuffix("\n}") + f',\n "colour_scale": {{\n{scale}\n }}\n}}'
    path.write_text(text + "\n", encoding="utf-8")
    return path


def _rows(table: list[list[float]]) -> str:
    return "[\n" + ",\n".join(f"   {json.dumps(row)}" for row in table) + "\n  ]"
