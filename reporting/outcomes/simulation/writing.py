"""A world in the database: results of photographs and operations, paired by the same rules as real ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import uuid5

import numpy as np

from reporting.identifiers import NAMESPACE, case_id, fhir_id
from reporting.outcomes.database import cases, phases, queue, simulated
from reporting.outcomes.following.follow import follow
from reporting.outcomes.records import CaseSource, Laterality, ProcedureCase
from reporting.outcomes.simulation.tables import in_force
from reporting.outcomes.simulation.world import BEGINS_ON, OLD_SCALE, SITES, SURGEONS, World
from service.appraisal.repeatability import REPEATABILITY_DIR, load_repeatability
from service.config import Settings
from service.database.pool import Connection
from service.errors import OutcomeError
from service.records import AppraisalStatus, MethodIdentity, Region

ISSUER = "SIMULATED"  # of every simulated patient ID
CODE = "80872004"  # repair of cleft lip
_REGIONS = (Region.FACE, Region.UPPER_LIP, Region.NOSE)
_AUTHOR = "simulation"
_BATCH = 200  # patients a transaction


def methods() -> tuple[MethodIdentity, MethodIdentity]:
    """The method before and the one after the change, as they are shipped."""
    old, new = (
        next(iter(REPEATABILITY_DIR.glob(f"{name}-*-pairs.json"))) for name in ("symmetry", "default")
    )
    return load_repeatability(old).method, load_repeatability(new).method


def write_world(connection: Connection, world: World) -> int:
    """Write photographs, results and operations; what is there stays. The caller has them paired.

    Args:
        connection: In a transaction.
        world: As simulated.

    Returns:
        Photographs written.

    Raises:
        OutcomeError: The database holds what is not simulated.
    """
    if simulated.has_real(connection, ISSUER, _AUTHOR):
        raise OutcomeError("the database holds what is not simulated: simulate into an empty one")
    photographs = list(_photographs(world))
    results = [row for each in photographs for row in _results(world, each)]
    written = simulated.write(connection, photographs, results)
    _begin_phases(connection, world)
    operations = list(_cases(world))
    cases.add_new(connection, operations)
    queue.touch(connection, [each["logical"] for each in photographs] + [c.patient for c in operations])
    return written


def pair_all(connection: Connection, settings: Settings) -> int:
    """Pair what waits, a batch at a time within the caller's transaction; returns how many patients."""
    while queue.gather(connection):
        pass
    done = 0
    while number := follow(connection, settings, limit=_BATCH):
        done += number
    return done


def _photographs(world: World) -> Iterator[dict[str, Any]]:
    sides = (
        (1, world.photographed_before, world.rejected_before, world.before),
        (2, world.photographed_after, world.rejected_after, world.after),
    )
    for index in range(len(world)):
        for number, days, reasons, scores in sides:
            if np.isnat(days[index]):
                continue
            uid = f"2.25.{uuid5(NAMESPACE, f'simulated {world.seed} {index} {number}').int}"
            taken = days[index].astype(object)
            taken_at = datetime.combine(taken, time(10, number), UTC)
            yield {
                "uid": uid,
                "study": uid,
                "patient": f"SIM-{world.seed}-{index:05}",
                "issuer": ISSUER,
                "logical": fhir_id("Patient", ISSUER, f"SIM-{world.seed}-{index:05}"),
                "sha256": hashlib.sha256(uid.encode()).hexdigest(),
                "taken": taken,
                "taken_at": taken_at,
                "received": taken_at + timedelta(minutes=1),
                "born": world.born_on[index].astype(object),
                "site": SITES[world.site[index]],
                "reason": str(reasons[index]),
                "score": float(scores[index]),
                "newer": bool(in_force(world, days[index : index + 1])[0]),
            }


def _results(world: World, photograph: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Results of a photograph: by the method in force then, and later again by the newer one."""
    changes_in = world.planted.method_changes_in_month
    offset = world.planted.method_offset if changes_in is not None else 0.0
    for newer, method in enumerate(methods()):
        if not newer and (photograph["newer"] or changes_in is None):
            continue
        again = bool(newer) and not photograph["newer"]
        score = photograph["score"] + offset if newer else photograph["score"] * OLD_SCALE
        waited = timedelta(seconds=20 + int(photograph["sha256"][:2], 16) / 8)
        rejected = bool(photograph["reason"])
        yield {
            **{name: getattr(method, name) for name in MethodIdentity.__dataclass_fields__},
            "uid": photograph["uid"],
            "sha256": photograph["sha256"],
            "appraisal": uuid5(NAMESPACE, f"{photograph['uid']} {method.phase}"),
            "status": (AppraisalStatus.REJECTED if rejected else AppraisalStatus.APPRAISED).value,
            "reasons": [photograph["reason"]] if rejected else [],
            "score": None if rejected else score,
            "regions": json.dumps(
                []
                if rejected
                else [
                    {"region": region.value, "score": score - 0.05 * place, "z": None, "judged": 1.0}
                    for place, region in enumerate(_REGIONS)
                ]
            ),
            "quality": json.dumps({"faces": 1}),
            "made": _change_day(world) + waited if again else photograph["received"] + waited,
        }


def _change_day(world: World) -> datetime:
    months = BEGINS_ON.month - 1 + (world.planted.method_changes_in_month or 0)
    return datetime(BEGINS_ON.year + months // 12, months % 12 + 1, 1, tzinfo=UTC)


def _begin_phases(connection: Connection, world: World) -> None:
    old, new = methods()
    begun = [(new, _change_day(world).date())]
    if world.planted.method_changes_in_month is not None:
        begun.insert(0, (old, BEGINS_ON))
    for method, day in begun:
        phases.begin(
            connection,
            phase=method.phase,
            method=f"{method.name} {method.version}",
            begins_on=day,
            reason="first result of this method",
            author=_AUTHOR,
        )


def _cases(world: World) -> Iterable[ProcedureCase]:
    for index in range(len(world)):
        yield ProcedureCase(
            case_id=case_id(_AUTHOR, str(world.seed), str(index)),
            version=0,
            source=CaseSource.MANUAL,
            reason="",
            author=_AUTHOR,
            patient=fhir_id("Patient", ISSUER, f"SIM-{world.seed}-{index:05}"),
            procedure_id="",
            code_system="http://snomed.info/sct",
            code=CODE,
            performed_on=world.operated_on[index].astype(object),
            born_on=world.born_on[index].astype(object),
            phenotype=str(world.phenotype[index]),
            syndrome=bool(world.syndrome[index]),
            laterality=Laterality(str(world.laterality[index])),
            site=SITES[world.site[index]],
            surgeon=SURGEONS[world.surgeon[index]],
            severity_before=None,
            consent=bool(world.consent[index]),
            active=True,
        )
