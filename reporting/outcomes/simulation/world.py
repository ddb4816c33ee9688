"""Five years of three sites and twenty surgeons, drawn from a seed: cases, photographs and scores.

Scores are on the scale of the default method: the standard error of measurement is 0.129, which is
that of photographs altered by a computer, and the change after surgery scatters by 0.35 between patients. A
change is judged by what real second photographs vary by.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from reporting.outcomes.charts.records import Days, Floats, Texts

BEGINS_ON = date(2020, 1, 1)
MONTHS = 60
PHOTOGRAPHS = 8000
SITES = ("Simulated North", "Simulated South", "Simulated West")
SURGEONS = tuple(f"Simulated surgeon {number:02}" for number in range(1, 21))
_SITE_OF = np.repeat(np.arange(3), (7, 7, 6))  # by surgeon
_FOLLOW_UP_DAYS = 183
_DAYS_A_MONTH = 30.4375
RESIDUAL_SD = 0.35  # of the change about its expectation
CHANGE_SD = 0.41  # of the change between patients
SMALLEST_DETECTABLE = 0.597
OLD_SCALE = 0.63  # of the scores of the method before: symmetry's SDC is 0.63 of the default one's


@dataclass(frozen=True, kw_only=True)
class Planted:
    """What is put in on purpose; the defaults of nothing are ``NOTHING``."""

    worse_surgeon: int | None = 13  # index in SURGEONS
    worse_by_sd: float = 0.5
    worse_from_month: int = 30
    method_changes_in_month: int | None = 40
    method_offset: float = 0.4  # of the new method's scores, beside their other scale
    blurred_site: int | None = 1  # index in SITES
    blur_from_month: int = 36
    blur_most: float = 0.30  # more photographs rejected as blurred at the end
    impossible_dates: int = 40
    missing_before: float = 0.12  # of cases at the last site; 0.04 elsewhere


PLANTED = Planted()
NOTHING = Planted(
    worse_surgeon=None,
    method_changes_in_month=None,
    blurred_site=None,
    impossible_dates=0,
    missing_before=0.04,
)


@dataclass(frozen=True, kw_only=True)
class World:
    """Cases, one row each; arrays are (n,). A photograph that is not there has NaT for its day."""

    seed: int
    planted: Planted
    site: NDArray[np.intp]  # index in SITES
    surgeon: NDArray[np.intp]  # index in SURGEONS
    phenotype: Texts  # UCLP, BCLP, CL, CP
    laterality: Texts  # left, right, bilateral
    syndrome: NDArray[np.bool_]
    born_on: Days
    operated_on: Days
    photographed_before: Days
    photographed_after: Days
    rejected_before: Texts  # reason; "" when judged
    rejected_after: Texts
    before: Floats  # true score and error of measurement, scale of the default method
    after: Floats
    consent: NDArray[np.bool_]
    impossible: NDArray[np.bool_]  # the photograph after is dated before the operation

    def __len__(self) -> int:
        return len(self.site)

    def month(self, days: Days) -> NDArray[np.int_]:
        """Months since the beginning."""
        return (days.astype("datetime64[M]") - np.datetime64(BEGINS_ON, "M")).astype(int)


def simulate(seed: int = 20, planted: Planted = PLANTED, photographs: int = PHOTOGRAPHS) -> World:
    """Draw a world; the same seed gives the same one.

    Args:
        seed: Of every draw.
        planted: What is put in on purpose.
        photographs: Judged or rejected, in all.
    """
    random = np.random.default_rng([seed, 5])
    number = photographs * 9 // 16 + 8
    world = _draw(random, seed, planted, number)
    taken = (~np.isnat(world.photographed_before)).astype(int) + (~np.isnat(world.photographed_after)).astype(
        int
    )
    order = _exactly(taken, random.permutation(number), photographs)
    order = order[np.argsort(world.operated_on[order], kind="stable")]
    return _rows(world, order)


def _exactly(taken: NDArray[np.int_], order: NDArray[np.intp], photographs: int) -> NDArray[np.intp]:
    """The first cases of an order that have so many photographs between them."""
    reached = np.cumsum(taken[order])
    kept = int(np.searchsorted(reached, photographs, side="right"))
    short = photographs - (int(reached[kept - 1]) if kept else 0)
    more = [index for index in order[kept:] if taken[index] == 1][:short]
    return np.concatenate([order[:kept], np.array(more, np.intp)])


def _draw(random: np.random.Generator, seed: int, planted: Planted, number: int) -> World:
    volume = np.array(
        [2.0 if i == PLANTED.worse_surgeon else 0.6 + (i * 7 % 20) / 20 for i in range(len(SURGEONS))]
    )
    surgeon = random.choice(len(SURGEONS), number, p=volume / volume.sum())
    last_month = MONTHS - _FOLLOW_UP_DAYS / _DAYS_A_MONTH - 1
    operated = np.datetime64(BEGINS_ON) + (random.random(number) * last_month * _DAYS_A_MONTH + 15).astype(
        "timedelta64[D]"
    )
    phenotype = random.choice(
        np.array(["UCLP", "BCLP", "CL", "CP"], object), number, p=[0.4, 0.2, 0.25, 0.15]
    )
    syndrome = random.random(number) < 0.1
    age_days = random.gamma(6, 30, number).astype(int) + 60
    severity = random.normal(0, 1, number) + (phenotype == "BCLP") * 0.8 - (phenotype == "CL") * 0.6
    truth = 1.6 - 0.35 * severity
    gain = 0.78 + 0.12 * severity - 0.15 * syndrome - 0.08 * (phenotype == "BCLP")
    gain = gain + random.normal(0, np.sqrt(RESIDUAL_SD**2 - 2 * 0.129**2), number)
    month = (operated.astype("datetime64[M]") - np.datetime64(BEGINS_ON, "M")).astype(int)
    if planted.worse_surgeon is not None:
        hit = (surgeon == planted.worse_surgeon) & (month >= planted.worse_from_month)
        gain = gain - hit * planted.worse_by_sd * CHANGE_SD
    site = _SITE_OF[surgeon]
    before_day = operated - random.integers(1, 60, number).astype("timedelta64[D]")
    after_day = operated + (_FOLLOW_UP_DAYS + random.integers(-40, 41, number)).astype("timedelta64[D]")
    missing_share = np.where(site == len(SITES) - 1, planted.missing_before, NOTHING.missing_before)
    not_a_day = np.datetime64("NaT", "D")
    before_day = np.where(random.random(number) < missing_share, not_a_day, before_day)
    after_day = np.where(random.random(number) < 0.08, not_a_day, after_day)
    impossible = np.zeros(number, bool)
    able = np.flatnonzero(~np.isnat(after_day))
    impossible[random.choice(able, min(planted.impossible_dates, len(able)), replace=False)] = True
    after_day = np.where(impossible, operated - np.timedelta64(400, "D"), after_day)
    world = World(
        seed=seed,
        planted=planted,
        site=site,
        surgeon=surgeon,
        phenotype=phenotype,
        laterality=np.where(
            phenotype == "BCLP",
            "bilateral",
            random.choice(np.array(["left", "right"], object), number, p=[0.65, 0.35]),
        ).astype(object),
        syndrome=syndrome,
        born_on=operated - age_days.astype("timedelta64[D]"),
        operated_on=operated,
        photographed_before=before_day,
        photographed_after=after_day,
        rejected_before=np.full(number, "", object),
        rejected_after=np.full(number, "", object),
        before=truth + random.normal(0, 0.129, number),
        after=truth + gain + random.normal(0, 0.129, number),
        consent=random.random(number) >= 0.03,
        impossible=impossible,
    )
    for days, reasons in (
        (world.photographed_before, world.rejected_before),
        (world.photographed_after, world.rejected_after),
    ):
        reasons[:] = _rejections(random, world, days)
    return world


def _rejections(random: np.random.Generator, world: World, days: Days) -> Texts:
    """Why each photograph is rejected; "" for those that are judged or not there."""
    planted, number = world.planted, len(days)
    reasons = np.full(number, "", object)
    chance = random.random(number)
    reasons[chance < 0.05] = random.choice(
        np.array(["yaw", "underexposed", "occluded"], object), int((chance < 0.05).sum())
    )
    if planted.blurred_site is not None:
        month = np.where(
            np.isnat(days), 0, world.month(np.where(np.isnat(days), np.datetime64(BEGINS_ON), days))
        )
        span = MONTHS - planted.blur_from_month
        share = np.clip((month - planted.blur_from_month) / span, 0, 1) * planted.blur_most
        blurred = (world.site == planted.blurred_site) & (random.random(number) < share) & (reasons == "")
        reasons[blurred] = "blurred"
    reasons[np.isnat(days)] = ""
    return reasons


def _rows(world: World, order: NDArray[np.intp]) -> World:
    arrays = {
        name: value[order]
        for name in World.__dataclass_fields__
        if isinstance(value := getattr(world, name), np.ndarray)
    }
    return World(seed=world.seed, planted=world.planted, **arrays)
