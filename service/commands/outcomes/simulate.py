"""``semblance simulate``: made-up cases with things planted in them, and what the charts find."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from reporting.outcomes.simulation.findings import Findings, findings
from reporting.outcomes.simulation.tables import denominators_of
from reporting.outcomes.simulation.world import NOTHING, PLANTED, SITES, SURGEONS, World, simulate
from service.commands.options import DataDir, settings_of
from service.database.pool import connect


def simulate_command(
    *,
    seed: Annotated[int, typer.Option(help="Of every draw; the same seed gives the same cases.")] = 20,
    unplanted: Annotated[int, typer.Option(min=0, help="Also so many seeds with nothing planted.")] = 0,
    write: Annotated[
        bool, typer.Option("--write", help="Write the cases into the database, which must hold nothing else.")
    ] = False,
    data_dir: DataDir = Path("var"),
) -> None:
    """Make up five years of cases with things planted in them, and say what the charts find, as JSON.

    Three sites, twenty surgeons, results of 8,000 photographs. Planted: a surgeon worse by half a standard
    deviation from month 30, a change of method with an offset, more and more blur at one site, impossible
    dates, missing photographs.

    Example: `semblance simulate`, or `semblance simulate --unplanted 200` for the rate of false signals.
    """
    world = simulate(seed)
    said: dict[str, object] = {
        "seed": seed,
        "planted": _planted(),
        "cases": len(world),
        "denominators": asdict(denominators_of(world)),
        "found": _found(findings(world)),
    }
    if unplanted:
        said["unplanted"] = _false_signals(range(1, unplanted + 1))
    if write:
        said["written"] = _write(world, data_dir)
    sys.stdout.write(json.dumps(said, indent=1) + "\n")


def _planted() -> dict[str, object]:
    surgeon, site = PLANTED.worse_surgeon, PLANTED.blurred_site
    return {
        **asdict(PLANTED),
        "worse_surgeon": None if surgeon is None else SURGEONS[surgeon],
        "blurred_site": None if site is None else SITES[site],
    }


def _found(found: Findings) -> dict[str, object]:
    return {name: value for name, value in vars(found).items() if name != "charts"}


def _false_signals(seeds: range) -> dict[str, int]:
    """Signals of charts of worlds with nothing planted."""
    total = dict.fromkeys(
        ("seeds", "funnel", "funnel_dispersed", "cusum", "rejected", "xmr_beyond", "xmr_points"), 0
    )
    for seed in seeds:
        found = findings(simulate(seed, NOTHING))
        total["seeds"] += 1
        total["funnel"] += len(found.funnel)
        total["funnel_dispersed"] += len(found.funnel_dispersed)
        total["cusum"] += len(found.cusum)
        total["rejected"] += len(found.rejected)
        total["xmr_beyond"] += found.xmr_beyond
        total["xmr_points"] += found.xmr_points
    return total


def _write(world: World, data_dir: Path) -> dict[str, int]:
    from reporting.outcomes.simulation.writing import pair_all, write_world

    settings = settings_of(data_dir)
    with connect(settings) as connection:
        photographs = write_world(connection, world)
        patients = pair_all(connection, settings)
    return {"photographs": photographs, "patients": patients}
