"""A world as the charts see it: its changes and its photographs, paired by the rules."""

from __future__ import annotations

from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from reporting.outcomes.charts.records import ChangeTable, Denominators, PhotographTable, Texts
from reporting.outcomes.simulation.world import (
    BEGINS_ON,
    OLD_SCALE,
    SITES,
    SMALLEST_DETECTABLE,
    SURGEONS,
    World,
)

METHODS = ("symmetry 1", "default 3")  # before and after the change of method


def in_force(world: World, days: NDArray[np.datetime64]) -> NDArray[np.bool_]:
    """Whether the newer method is in force on each day."""
    changes_in = world.planted.method_changes_in_month
    if changes_in is None:
        return np.ones(len(days), bool)
    return np.asarray(days >= np.datetime64(BEGINS_ON, "M") + np.timedelta64(changes_in, "M"), bool)


def paired(world: World) -> NDArray[np.bool_]:
    """Cases with a change: consent, both photographs judged, in the right order."""
    return np.asarray(
        world.consent
        & ~world.impossible
        & ~np.isnat(world.photographed_before)
        & ~np.isnat(world.photographed_after)
        & (world.rejected_before == "")
        & (world.rejected_after == ""),
        bool,
    )


def changes_of(world: World, *, newest_method: bool = True) -> ChangeTable:
    """The changes.

    Args:
        world: As simulated.
        newest_method: Whether every photograph is taken as appraised by the newest method, as after
            re-appraisal; else by the method in force when the later one was taken.
    """
    chosen = np.flatnonzero(paired(world))
    newer = np.ones(len(chosen), bool) if newest_method else in_force(world, world.photographed_after[chosen])
    offset = world.planted.method_offset if world.planted.method_changes_in_month is not None else 0.0

    def scored(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(newer, values[chosen] + offset, values[chosen] * OLD_SCALE)

    before, after = scored(world.before), scored(world.after)
    smallest = np.where(newer, SMALLEST_DETECTABLE, SMALLEST_DETECTABLE * OLD_SCALE)
    days = (world.operated_on - world.born_on)[chosen].astype(int)
    return ChangeTable(
        change_id=np.array([str(UUID(int=(world.seed << 32) + int(i))) for i in chosen], object),
        operated_on=world.operated_on[chosen],
        followed_on=world.photographed_after[chosen],
        site=_named(SITES, world.site[chosen]),
        surgeon=_named(SURGEONS, world.surgeon[chosen]),
        phenotype=world.phenotype[chosen],
        syndrome=world.syndrome[chosen],
        laterality=world.laterality[chosen],
        age=days / 365.25,
        before=before,
        after=after,
        poor=after - before <= smallest,
        method=np.where(newer, METHODS[1], METHODS[0]).astype(object),
    )


def photographs_of(world: World) -> PhotographTable:
    """Every photograph that was received."""
    parts = []
    for side, days, reasons in (
        ("before", world.photographed_before, world.rejected_before),
        ("after", world.photographed_after, world.rejected_after),
    ):
        there = np.flatnonzero(~np.isnat(days))
        names = np.array([f"2.25.{world.seed}.{i + 1}.{1 if side == 'before' else 2}" for i in there], object)
        parts.append((names, days[there], world.site[there], reasons[there]))
    names, days, sites, reasons = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    random = np.random.default_rng([world.seed, 9])
    return PhotographTable(
        sop_instance_uid=names,
        acquired_on=days,
        site=_named(SITES, sites),
        reason=reasons,
        waited_s=random.gamma(9, 0.5, len(names)),
    )


def denominators_of(world: World) -> Denominators:
    """Who the changes do not speak of."""
    able = world.consent
    before, after = (
        ~np.isnat(world.photographed_before),
        ~np.isnat(world.photographed_after) & ~world.impossible,
    )
    reasons: dict[str, int] = {}
    turned_down = able & before & after & ((world.rejected_before != "") | (world.rejected_after != ""))
    for index in np.flatnonzero(turned_down):
        reason = str(world.rejected_before[index] or world.rejected_after[index])
        reasons[reason] = reasons.get(reason, 0) + 1
    return Denominators(
        eligible=len(world),
        paired=int(paired(world).sum()),
        missing_before=int((able & ~before).sum()),
        missing_after=int((able & before & ~after).sum()),
        rejected=dict(sorted(reasons.items())),
        undecided=0,
        not_comparable=0,
        withdrawn=0,
        no_consent=int((~world.consent).sum()),
    )


def _named(names: tuple[str, ...], places: NDArray[np.intp]) -> Texts:
    return np.array(names, object)[places]
