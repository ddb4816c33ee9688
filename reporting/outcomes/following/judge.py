"""From a person's dossier to roles, conflicts, changes and states: a pure function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from reporting.identifiers import conflict_id
from reporting.outcomes.change import change_of, id_of, refusal
from reporting.outcomes.database.changes import NewChange
from reporting.outcomes.following.gather import Dossier
from reporting.outcomes.pairing import Decision, Pairing, pair
from reporting.outcomes.records import (
    Assigned,
    Conflict,
    PhotographFacts,
    ProcedureCase,
    RegionOutcome,
    ResultSide,
    Role,
    WhyNot,
    Window,
)
from reporting.outcomes.states import WindowState
from reporting.outcomes.windows import DEFAULT_WINDOWS, is_due, place_in, windows_for
from service.appraisal.repeatability import Repeatability
from service.records import MethodIdentity, Region

FindRepeatability = Callable[[MethodIdentity], Repeatability | None]


@dataclass(frozen=True, kw_only=True)
class Made:
    """One change between two results."""

    new: NewChange
    regions: tuple[RegionOutcome, ...]


@dataclass(frozen=True, kw_only=True)
class CaseOutcome:
    """What follows of one case."""

    case: ProcedureCase
    assigned: tuple[Assigned, ...]
    conflicts: Mapping[UUID, Conflict]
    made: tuple[Made, ...]
    states: tuple[tuple[str, WindowState, str], ...]  # window, state, reason; windows after the operation
    to_reappraise: tuple[tuple[int, str], ...]  # instance, phase of the newer result
    invalid: Mapping[str, WhyNot]  # why changes of a window that are there no longer count


@dataclass(frozen=True, kw_only=True)
class _Looked:
    """One case, where photographs of it are looked for, and which lie there."""

    case: ProcedureCase
    windows: Sequence[Window]
    inside: Mapping[str, Sequence[PhotographFacts]]  # by name of the window
    today: date


def judge(
    dossier: Dossier,
    *,
    windows: Sequence[Window],
    decisions: Mapping[UUID, Mapping[str, Decision]],
    repeatability: FindRepeatability,
    today: date,
) -> list[CaseOutcome]:
    """Judge every case of a person.

    Args:
        dossier: All that is known.
        windows: Set by persons; the defaults where a code has none.
        decisions: Of persons, by case and window.
        repeatability: Of a method; None where it was not measured.
        today: Windows that have closed by now are due.
    """
    general = windows if any(not window.code for window in windows) else (*windows, *DEFAULT_WINDOWS)
    return [
        _judge_case(
            dossier,
            case,
            windows_for(case.code, general),
            decisions,
            repeatability=repeatability,
            today=today,
        )
        for case in dossier.cases
    ]


def _judge_case(
    dossier: Dossier,
    case: ProcedureCase,
    windows: Sequence[Window],
    decisions: Mapping[UUID, Mapping[str, Decision]],
    *,
    repeatability: FindRepeatability,
    today: date,
) -> CaseOutcome:
    others = [each for each in dossier.cases if each.case_id != case.case_id]
    looked = _Looked(
        case=case,
        windows=windows,
        inside={each.name: _inside(dossier, case, each) for each in windows},
        today=today,
    )
    paired = pair(case, dossier.photographs, windows, others, decisions.get(case.case_id))
    stop = None if case.active and case.consent else _stopped(case)
    filled = {each.window.name: each for each in paired.assigned}
    before = next((each for each in paired.assigned if each.window.role is Role.PRE), None)
    made: list[Made] = []
    wanted: list[tuple[int, str]] = []
    states: list[tuple[str, WindowState, str]] = []
    invalid: dict[str, WhyNot] = {}
    for window in (each for each in windows if each.role is Role.POST):
        after = filled.get(window.name)
        why: WhyNot | None = stop[1] if stop else None
        own: list[Made] = []
        if not stop and before and after:
            own, why, again = _changes(
                dossier, case, window, pair=(before, after), repeatability=repeatability
            )
            wanted += again
        made += own
        invalid[window.name] = why or _lost(looked.inside[window.name])
        if stop:
            state, reason = stop[0], ""
        else:
            state, reason = _state(looked, window, paired=paired, made=own, why=why)
        states.append((window.name, state, reason))
    return CaseOutcome(
        case=case,
        assigned=paired.assigned,
        conflicts={_name(case, each): each for each in paired.conflicts} if not stop else {},
        made=tuple(made),
        states=tuple(states),
        to_reappraise=tuple(dict.fromkeys(wanted)),
        invalid=invalid,
    )


def _stopped(case: ProcedureCase) -> tuple[WindowState, WhyNot]:
    if not case.active:
        return WindowState.WITHDRAWN, WhyNot.CASE_WITHDRAWN
    return WindowState.NO_CONSENT, WhyNot.NO_CONSENT


def _name(case: ProcedureCase, conflict: Conflict) -> UUID:
    window = conflict.window.name if conflict.window else ""
    return conflict_id(case.case_id, conflict.kind.value, window, conflict.instance_ids)


def _changes(
    dossier: Dossier,
    case: ProcedureCase,
    window: Window,
    *,
    pair: tuple[Assigned, Assigned],
    repeatability: FindRepeatability,
) -> tuple[list[Made], WhyNot | None, list[tuple[int, str]]]:
    """The change within each method that judged both; else why there is none, and what to appraise again."""
    before, after = pair
    earlier, later = dossier.results[before.instance_id], dossier.results[after.instance_id]
    made, why = [], None
    for phase in sorted(earlier.keys() & later.keys()):
        reason = refusal(earlier[phase], later[phase])
        if reason is None:
            made.append(_made(case, window, earlier[phase], later[phase], repeatability))
        else:
            why = reason
    if not made and why is None:
        why = WhyNot.OTHER_METHOD
    return made, None if made else why, _to_reappraise(before, earlier, after, later)


def _to_reappraise(
    before: Assigned, earlier: Mapping[str, ResultSide], after: Assigned, later: Mapping[str, ResultSide]
) -> list[tuple[int, str]]:
    """Which of two photographs lacks a result of the method that judged last, and that method's phase."""
    everything = [*earlier.values(), *later.values()]
    newest = max(everything, key=lambda side: side.made_at).appraisal.method.phase if everything else ""
    return [
        (each.instance_id, newest)
        for each, results in ((before, earlier), (after, later))
        if newest and newest not in results
    ]


def _made(
    case: ProcedureCase,
    window: Window,
    before: ResultSide,
    after: ResultSide,
    repeatability: FindRepeatability,
) -> Made:
    method = after.appraisal.method
    new = NewChange(
        change_id=id_of(before, after),
        case=case,
        window=window.name,
        before_appraisal=before.appraisal.appraisal_id,
        after_appraisal=after.appraisal.appraisal_id,
        phase=method.phase,
        method=f"{method.name} {method.version}",
        followed_on=after.acquired_on,
    )
    return Made(new=new, regions=change_of(before, after, repeatability(method)))


def _lost(inside: Sequence[PhotographFacts]) -> WhyNot:
    """Why earlier changes of a window without one now no longer count."""
    return WhyNot.WITHDRAWN if any(each.withdrawn for each in inside) else WhyNot.SUPERSEDED


def _inside(dossier: Dossier, case: ProcedureCase, window: Window) -> list[PhotographFacts]:
    return [
        each
        for each in dossier.photographs
        if each.acquired_on is not None and place_in(window, case, each.acquired_on) is not None
    ]


def _state(
    looked: _Looked, window: Window, *, paired: Pairing, made: Sequence[Made], why: WhyNot | None
) -> tuple[WindowState, str]:
    """What a window after the operation has, and the reason where there is one to say."""
    if any(_face_counts(each) for each in made):
        return WindowState.PAIRED, ""
    if made or why in (WhyNot.OTHER_METHOD, WhyNot.WRONG_ORDER, WhyNot.OTHER_PATIENT):
        return WindowState.NOT_COMPARABLE, (why or WhyNot.NOT_SCORED).value
    pre = [each for each in looked.windows if each.role is Role.PRE]
    filled = {each.window.name for each in paired.assigned}
    for looked_in, missing in ((pre, WindowState.MISSING_BEFORE), ([window], WindowState.MISSING_AFTER)):
        if not any(each.name in filled for each in looked_in):
            return _missing(looked, looked_in, paired) or (missing, "")
    return WindowState.NOT_COMPARABLE, why.value if why else ""


def _missing(looked: _Looked, looked_in: Sequence[Window], paired: Pairing) -> tuple[WindowState, str] | None:
    """Why windows have no photograph, beyond that there is none; None when there is none."""
    waiting = [each for each in paired.conflicts if each.window is None or each.window in looked_in]
    if waiting:
        return WindowState.UNDECIDED, waiting[0].kind.value
    inside = [each for one in looked_in for each in looked.inside[one.name]]
    if any(each.withdrawn for each in inside):
        return WindowState.WITHDRAWN, ""
    rejected = next((each.reasons[0] for each in inside if each.reasons), "")
    if rejected:
        return WindowState.REJECTED, rejected
    if all(is_due(one, looked.case, looked.today) for one in looked_in):
        return None
    return WindowState.NOT_DUE, ""


def _face_counts(made: Made) -> bool:
    return any(each.region is Region.FACE and each.why_not is None for each in made.regions)
