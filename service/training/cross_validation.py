"""How well a calibration rates photographs it was not fitted to: cross-validation by people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np

from service.appraisal.calibration import LEAST_RATING, MOST_RATING
from service.errors import ConfigurationError
from service.evaluation.statistics import Agreement, agreement

FOLDS = 10
Knots = tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Agreement on photographs of people whom the fit had not seen."""

    people: int
    folds: int
    agreement: Agreement

    def __str__(self) -> str:
        """In words."""
        found = self.agreement
        return (
            f"on ratings it was not fitted to ({found.photographs} photographs of {self.people} people, "
            f"{self.folds} folds): Pearson {found.pearson.value:.2f}, MAE {found.mae.value:.2f} "
            f"({found.mae.low:.2f} to {found.mae.high:.2f}), W1 {found.w1.value:.2f}"
        )


def people_of_names(photos: Sequence[str]) -> tuple[str, ...]:
    """Who each photograph is of: those of one folder are of one person, those in none of different people."""
    return tuple(str(PurePath(photo).parent) if PurePath(photo).parent.name else photo for photo in photos)


def held_out_agreement(
    fit: Callable[[Sequence[float], Sequence[float]], Knots],
    scores: Sequence[float],
    ratings: Sequence[float],
    people: Sequence[str],
    *,
    seed: int = 0,
) -> HeldOut:
    """Fit to all but a fold of the people, rate those of the fold, and compare.

    Args:
        fit: Makes the rating a function of the score.
        scores: Of the photographs.
        ratings: Mean ratings.
        people: Who each photograph is of.
        seed: Of who comes into which fold.

    Raises:
        ConfigurationError: Too few people, or a fold leaves too little to fit to.
    """
    x, y, who = np.asarray(scores, float), np.asarray(ratings, float), np.asarray(people)
    names = np.unique(who)
    folds = min(FOLDS, len(names))
    if folds < 2:
        raise ConfigurationError("photographs of two people are the least")
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of = dict(zip(names[order], np.arange(len(names)) % folds, strict=True))
    fold = np.array([fold_of[name] for name in who])
    predicted = np.full(len(x), np.nan)
    for number in range(folds):
        chosen = fold == number
        knots_x, knots_y = zip(*fit(list(x[~chosen]), list(y[~chosen])), strict=True)
        predicted[chosen] = np.clip(np.interp(x[chosen], knots_x, knots_y), LEAST_RATING, MOST_RATING)
    found = agreement(list(predicted), list(y), are_ratings=True)
    return HeldOut(people=len(names), folds=folds, agreement=found)
