"""Whether the regions a method names are those that were changed, and no others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.appraisal.face.regions import region_masks
from service.evaluation.benchmark.measures import auroc
from service.evaluation.benchmark.studies import Cell, StudyTable, figure_of
from service.evaluation.benchmark.summary import ALL_TYPES, CLEAN, STRONG
from service.evaluation.benchmark.trial import Sheet
from service.records import Region

AFFECTED_SHARE = 0.2  # of a region's pixels that must have been changed for it to be affected
UNTOUCHED_SHARE = 0.01  # of a region's pixels that may have been changed in one that is untouched
BEYOND_NORM = 2.0  # standard deviations above normal faces, from which on a region is named
FULL = 1.0  # severity
COLUMNS = ("affected", "auroc", "named", "auroc_full", "named_full", "false_full")


@dataclass(frozen=True, kw_only=True)
class _Zone:
    """One region of one image."""

    subject: str
    kind: str  # "sham" or the anomaly type
    severity: float
    z: float
    changed: float  # share of its pixels that were


class RegionStudy:
    """Collects, from the images of a trial, each region's z with how much of it was changed."""

    def __init__(self) -> None:
        self._zones: list[_Zone] = []
        self._masks: dict[int, Mapping[Region, npt.NDArray[np.bool_]]] = {}

    @property
    def empty(self) -> bool:
        """True while no image came with regions that a calibration knows."""
        return not self._zones

    def see(self, sheet: Sheet) -> None:
        """Take one image."""
        if sheet.judged.appraised is None:
            return
        key = id(sheet.subject)
        if key not in self._masks:
            rows, columns = sheet.rendered.mask.shape
            mesh = sheet.subject.landmarks.astype(np.float64)
            self._masks = {key: region_masks(mesh, (rows, columns))}
        for part in sheet.judged.appraised.appraisal.regions:
            mask = self._masks[key][part.region]
            if part.region is Region.FACE or part.z is None or not mask.any():
                continue
            self._zones.append(
                _Zone(
                    subject=sheet.subject.identity,
                    kind=sheet.kind,
                    severity=sheet.severity,
                    z=part.z,
                    changed=float(sheet.rendered.mask[mask].mean()),
                )
            )

    def tables(self, *, repeats: int) -> tuple[StudyTable, ...]:
        """Affected against untouched regions of anomalous faces, by type."""
        kinds = dict.fromkeys(zone.kind for zone in self._zones if zone.severity > 0)
        rows = [(CLEAN, self._clean(repeats))]
        rows += [(kind, self._row(kind, repeats)) for kind in (ALL_TYPES, *kinds)]
        return (
            StudyTable(
                name="regions",
                title="Regions that are named",
                note=(
                    f"Regions of which {AFFECTED_SHARE:.0%} and more was changed (affected) against those "
                    f"of which less than {UNTOUCHED_SHARE:.0%} was (untouched), in anomalous faces of "
                    f"severity {STRONG:g} and more, and {FULL:g} (full). AUROC of z; named: affected regions "
                    f"with z >= {BEYOND_NORM:g}; false: untouched ones. Clean: all regions of sham-resampled "
                    "faces."
                ),
                columns=COLUMNS,
                rows=tuple(rows),
            ),
        )

    def _clean(self, repeats: int) -> tuple[Cell, ...]:
        shams = [zone for zone in self._zones if zone.kind == "sham"]
        return (None, None, None, None, None, _figure(shams, _beyond, repeats))

    def _row(self, kind: str, repeats: int) -> tuple[Cell, ...]:
        strong = [
            zone
            for zone in self._zones
            if zone.severity >= STRONG and kind in {ALL_TYPES, zone.kind} and not _between(zone)
        ]
        full = [zone for zone in strong if zone.severity == FULL]
        return (
            sum(_affected(zone) for zone in strong),
            _figure(strong, _told, repeats),
            _figure([zone for zone in strong if _affected(zone)], _beyond, repeats),
            _figure(full, _told, repeats),
            _figure([zone for zone in full if _affected(zone)], _beyond, repeats),
            _figure([zone for zone in full if not _affected(zone)], _beyond, repeats),
        )


def _affected(zone: _Zone) -> bool:
    return zone.changed >= AFFECTED_SHARE


def _between(zone: _Zone) -> bool:
    return UNTOUCHED_SHARE <= zone.changed < AFFECTED_SHARE


def _beyond(zones: Sequence[_Zone]) -> float:
    return float(np.mean([zone.z >= BEYOND_NORM for zone in zones])) if zones else float("nan")


def _told(zones: Sequence[_Zone]) -> float:
    untouched = np.array([zone.z for zone in zones if not _affected(zone)])
    return auroc(untouched, np.array([zone.z for zone in zones if _affected(zone)]))


def _figure(zones: Sequence[_Zone], of: Callable[[Sequence[_Zone]], float], repeats: int) -> Cell:
    """A figure of regions, with its interval over subjects."""
    own: dict[str, list[_Zone]] = defaultdict(list)
    for zone in zones:
        own[zone.subject].append(zone)
    each = list(own.values())
    if not each:
        return None
    return figure_of(
        len(each), lambda drawn: of([zone for one in drawn for zone in each[one]]), repeats=repeats
    )
