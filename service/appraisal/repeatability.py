"""How much a score varies when nothing about the face has changed, as it is stored with a method.

The within-subject standard deviation (the standard error of measurement), the smallest detectable change
1.96 sqrt(2) SEM (Weir 2005) and the ICC. What is stored belongs to one method and weights; a change between
two photographs is real only beyond it. ``service.evaluation.repeatability`` measures it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from service.errors import ConfigurationError
from service.records import MethodIdentity

REPEATABILITY_DIR = Path(__file__).resolve().parent / "calibrations" / "repeatability"


ALTERED = "single photographs altered by a computer"  # the basis where nobody was photographed twice


@dataclass(frozen=True, kw_only=True)
class RegionRepeatability:
    """Repeatability of one region's score."""

    within_sd: float  # standard error of measurement
    smallest_detectable_change: float  # 95 %
    icc: float  # ICC(1) of a single photograph
    photographs: int
    people: int = 0  # they are of; 0 in figures made before people were counted


@dataclass(frozen=True, kw_only=True)
class Repeatability:
    """Repeatability of one method; valid for results of exactly this method and weights."""

    method: MethodIdentity
    regions: Mapping[str, RegionRepeatability]
    shift: Mapping[
        str, float
    ]  # condition -> mean change of the face's score, in within-subject SDs; none if all rejected
    rejected: Mapping[str, int]  # condition -> photographs no longer judged
    basis: str = ALTERED  # what was photographed, in words
    apart: Mapping[str, Mapping[str, RegionRepeatability]] = field(default_factory=dict)  # by kind of chance

    def holds_for(self, method: MethodIdentity) -> bool:
        """Whether a method's scores are the same; calibrations change ratings only."""
        return replace(self.method, calibration="") == replace(method, calibration="")


def save_repeatability(found: Repeatability, path: Path) -> None:
    """Write as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(found), indent=1) + "\n", encoding="utf-8")


def load_repeatability(path: Path) -> Repeatability:
    """Read what `save_repeatability` wrote.

    Raises:
        ConfigurationError: Unreadable or malformed.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return Repeatability(
            method=MethodIdentity(**raw["method"]),
            regions=_by_region(raw["regions"]),
            shift=dict(raw["shift"]),
            rejected=dict(raw["rejected"]),
            basis=str(raw.get("basis", ALTERED)),
            apart={kind: _by_region(regions) for kind, regions in raw.get("apart", {}).items()},
        )
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ConfigurationError(f"repeatability {path}: {exc!r}") from exc


def _by_region(raw: Mapping[str, Mapping[str, Any]]) -> Mapping[str, RegionRepeatability]:
    return {name: RegionRepeatability(**values) for name, values in raw.items()}


def repeatability_places(model_dir: Path | None) -> tuple[Path, ...]:
    """Directories it may be stored in: the site's own first, then what is shipped."""
    return (*((model_dir / "repeatability",) if model_dir else ()), REPEATABILITY_DIR)


def find_repeatability(method: MethodIdentity, *directories: Path) -> Repeatability | None:
    """Return the repeatability stored for exactly this method and weights, if there is one.

    Of several in one directory, one of real second photographs comes first.

    Args:
        method: Of the scores.
        directories: Where to look, the first first; none looks at what is shipped.

    Raises:
        ConfigurationError: A stored one is malformed.
    """
    for directory in directories or (REPEATABILITY_DIR,):
        stored = [load_repeatability(path) for path in sorted(directory.glob("*.json"))]
        held = [found for found in stored if found.holds_for(method)]
        if held:
            return min(held, key=lambda found: found.basis == ALTERED)
    return None
