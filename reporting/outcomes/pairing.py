"""Which photographs belong before and after an operation: by date, header hints and quality, never by chance.

What cannot be told is a conflict for a person, not a guess.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reporting.outcomes.records import (
    Anchor,
    Assigned,
    Conflict,
    ConflictKind,
    DecidedBy,
    PhotographFacts,
    ProcedureCase,
    Role,
    Window,
)
from reporting.outcomes.windows import place_in

_ALIKE = 1e-6  # qualities nearer than this are equal


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a person decided of a case's window; the newest counts."""

    window: str  # its name
    instance_id: int | None  # None: no photograph of this window is to be used
    reason: str


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """Roles of one case's photographs, and what is not decided."""

    assigned: tuple[Assigned, ...]  # at most one a window
    conflicts: tuple[Conflict, ...]


def pair(
    case: ProcedureCase,
    photographs: Sequence[PhotographFacts],
    windows: Sequence[Window],
    others: Sequence[ProcedureCase] = (),
    decisions: Mapping[str, Decision] | None = None,
) -> Pairing:
    """Give a case's photographs their roles.

    Args:
        case: The operation.
        photographs: Every one of the patient.
        windows: Of the procedure's code.
        others: The patient's other operations of any code.
        decisions: By name of the window; a person's word goes before every rule.
    """
    decided = dict(decisions or {})
    possible, conflicts = _possible(case, photographs)
    assigned: list[Assigned] = []
    for window in windows:
        if window.name in decided:
            assigned += _as_decided(window, decided[window.name], photographs)
            continue
        inside = [
            each
            for each in possible
            if each.acquired_on and place_in(window, case, each.acquired_on) is not None
        ]
        against = [each for each in inside if _contradicts(each, window, others)]
        if against:
            conflicts.append(_against(window, against))
        candidates = [each for each in inside if each.judged and each not in against]
        found, conflict = _best(case, window, candidates, others)
        assigned += [found] if found else []
        conflicts += [conflict] if conflict else []
    return Pairing(assigned=tuple(assigned), conflicts=tuple(conflicts))


def _possible(
    case: ProcedureCase, photographs: Sequence[PhotographFacts]
) -> tuple[list[PhotographFacts], list[Conflict]]:
    """Photographs with a date that can be, and a conflict for each whose date cannot."""
    possible, conflicts = [], []
    for each in photographs:
        if each.acquired_on is None:
            continue
        born_on = each.born_on or case.born_on
        wrong = ""
        if born_on is not None and each.acquired_on < born_on:
            wrong = f"taken {each.acquired_on}, born {born_on}"
        elif (each.acquired_on - each.received_on).days > 1:  # a zone ahead of ours is no fault
            wrong = f"taken {each.acquired_on}, received {each.received_on}"
        if wrong:
            conflicts.append(
                Conflict(
                    kind=ConflictKind.IMPOSSIBLE_DATE,
                    window=None,
                    instance_ids=(each.instance_id,),
                    detail=wrong,
                )
            )
        else:
            possible.append(each)
    return possible, conflicts


def _as_decided(window: Window, decision: Decision, photographs: Sequence[PhotographFacts]) -> list[Assigned]:
    known = {each.instance_id for each in photographs}
    if decision.instance_id is None or decision.instance_id not in known:
        return []
    return [
        Assigned(
            instance_id=decision.instance_id,
            window=window,
            decided_by=DecidedBy.PERSON,
            reason=decision.reason,
        )
    ]


def _contradicts(photograph: PhotographFacts, window: Window, others: Sequence[ProcedureCase]) -> bool:
    """Whether a header says the opposite of the date, and no other operation explains it."""
    taken_on = photograph.acquired_on
    if photograph.hint in (None, window.role) or taken_on is None:
        return False
    if photograph.hint is Role.POST:  # of an operation before it
        return not any(other.active and other.performed_on < taken_on for other in others)
    return not any(other.active and other.performed_on >= taken_on for other in others)


def _against(window: Window, against: Sequence[PhotographFacts]) -> Conflict:
    said = "; ".join(
        f"{each.sop_instance_uid} of {each.acquired_on}: {each.hint_source} says {each.hint}"
        for each in against
    )
    return Conflict(
        kind=ConflictKind.HINT_AGAINST_DATE,
        window=window,
        instance_ids=tuple(each.instance_id for each in against),
        detail=said,
    )


def _best(
    case: ProcedureCase,
    window: Window,
    candidates: Sequence[PhotographFacts],
    others: Sequence[ProcedureCase],
) -> tuple[Assigned | None, Conflict | None]:
    """The best photograph of a window, or why there is none."""
    if window.role is Role.PRE and candidates:
        # "last before": of the last day on which one could be judged
        last = max(each.acquired_on for each in candidates if each.acquired_on)
        candidates = [each for each in candidates if each.acquired_on == last]
    hinted = [each for each in candidates if each.hint is window.role]
    ranked = sorted(
        hinted or candidates,
        key=lambda each: (each.quality is None, -(each.quality or 0.0), each.instance_id),
    )
    if not ranked:
        return None, None
    between = _between(case, window, ranked[0], others)
    if between:
        return None, between
    best = ranked[0]
    alike = [
        each
        for each in ranked
        if (each.quality is None) == (best.quality is None)
        and abs((each.quality or 0.0) - (best.quality or 0.0)) <= _ALIKE
    ]
    if len(alike) > 1:
        detail = ", ".join(each.sop_instance_uid for each in alike)
        ids = tuple(each.instance_id for each in alike)
        return None, Conflict(kind=ConflictKind.EQUAL_QUALITY, window=window, instance_ids=ids, detail=detail)
    by_hint = best in hinted
    reason = f"{best.hint_source}; " if by_hint else ""
    reason += f"best of {len(ranked)} by quality" if len(ranked) > 1 else "the only one"
    decided_by = DecidedBy.DICOM if by_hint else DecidedBy.RULE
    return (
        Assigned(instance_id=best.instance_id, window=window, decided_by=decided_by, reason=reason),
        None,
    )


def _between(
    case: ProcedureCase, window: Window, best: PhotographFacts, others: Sequence[ProcedureCase]
) -> Conflict | None:
    """Another operation of the same kind before the photograph: it may be that one's result."""
    if window.anchor is Anchor.BIRTH or window.role is Role.PRE or best.acquired_on is None:
        return None
    for other in others:
        same_kind = other.code == case.code and other.active and other.case_id != case.case_id
        if same_kind and case.performed_on < other.performed_on < best.acquired_on:
            return Conflict(
                kind=ConflictKind.TWO_PROCEDURES,
                window=window,
                instance_ids=(best.instance_id,),
                detail=f"operated on again {other.performed_on}, photographed {best.acquired_on}",
            )
    return None
