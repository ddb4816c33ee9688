"""One method through the benchmark: the trial, and the studies asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from service.appraisal.anomalies import Maker
from service.appraisal.appraiser import Appraiser
from service.appraisal.methods.localised.comparator import FUSION_MODEL
from service.appraisal.methods.localised.comparator import ROW as LOCALISED
from service.appraisal.methods.localised.fusion import fusion_from
from service.appraisal.methods.localised.normaliser import COUNTERPART
from service.appraisal.methods.localised.normaliser import ROWS as READING
from service.appraisal.model_files.models import ModelStore
from service.appraisal.registry import find_method
from service.errors import ConfigurationError
from service.evaluation.benchmark.ablations import AblationStudy
from service.evaluation.benchmark.counterparts import CounterpartStudy
from service.evaluation.benchmark.judges import NOT_METHODS, AppraiserJudge
from service.evaluation.benchmark.landmarks import LandmarkStudy
from service.evaluation.benchmark.regions import RegionStudy
from service.evaluation.benchmark.robustness import measure_robustness
from service.evaluation.benchmark.studies import StudyTable, as_json, rejection_table, trial_table
from service.evaluation.benchmark.subgroups import Portrayed, measure_subgroups
from service.evaluation.benchmark.summary import Summary, summarise
from service.evaluation.benchmark.threshold import threshold_table
from service.evaluation.benchmark.trial import (
    PLACEBOS,
    SEVERITIES,
    Judge,
    Sheet,
    Subject,
    Verdict,
    placebos,
    trial,
)

SHEET_FACES = 4
Tell = Callable[[str, int, int], None]  # what is being done, how many of how many images
Study: TypeAlias = LandmarkStudy | AblationStudy | RegionStudy | CounterpartStudy
_READING = frozenset(row.name for row in READING)  # normalisers that read faces with the network


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """What to show, and which studies to make."""

    makers: Mapping[str, Maker]
    faces: Sequence[Subject]  # of the trial and of robustness
    people: Sequence[Portrayed] = ()  # of the subgroups; none for no such study
    trial: bool = True
    robustness: bool = False
    landmarks: bool = False  # of methods whose network finds them
    ablations: bool = False  # of methods whose evidence is fused
    repeats: int = 200  # of every bootstrap; 0 for none
    seed: int = 0

    @property
    def baseline(self) -> Plan:
        """The same trial with no study."""
        return replace(self, people=(), robustness=False, landmarks=False, ablations=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """Everything measured of one method."""

    method: str
    summary: Summary | None  # of the trial
    studies: tuple[StudyTable, ...]
    sheets: tuple[Sheet, ...]  # of the first faces

    @property
    def tables(self) -> tuple[StudyTable, ...]:
        """The trial's tables and those of the studies."""
        own = (trial_table(self.summary), rejection_table(self.summary)) if self.summary else ()
        return (*own, *self.studies)

    @property
    def figures(self) -> dict[str, object]:
        """As plain JSON."""
        head: dict[str, object] = {}
        if self.summary is not None:
            head = {
                "subjects": self.summary.subjects,
                "ms_per_image": round(self.summary.milliseconds, 1),
            }
        return {**head, **{table.name: as_json(table) for table in self.tables}}


def check(plan: Plan, methods: Sequence[str]) -> None:
    """Refuse what cannot be measured before anything is.

    Raises:
        ConfigurationError: studies that no method, or no face, is there for.
        UnknownMethodError: no such method.
    """
    if not plan.faces and (plan.trial or plan.robustness or not plan.people):
        raise ConfigurationError("nothing to show: name a folder of photographs, or --subgroups --no-trial")
    if (plan.landmarks or plan.ablations) and not plan.trial:
        raise ConfigurationError("landmarks and ablations are measured on the trial's images; keep the trial")
    found = [find_method(name) for name in methods if name not in NOT_METHODS]
    if plan.landmarks and not any(row.normaliser in _READING for row in found):
        raise ConfigurationError("none of these methods finds landmarks of its own; the default one does")
    if plan.ablations and not any(row.comparator == LOCALISED.name for row in found):
        raise ConfigurationError("none of these methods fuses evidence; the default one does")


def run(
    method: str,
    plan: Plan,
    store: ModelStore,
    tell: Tell = lambda what, done, total: None,
) -> Result:
    """Measure one method.

    Args:
        method: name, normaliser+comparator, or a judge of NOT_METHODS, of which there are no studies.
        plan: what to show.
        store: where model files are found.
        tell: told how many of how many images are done.

    Raises:
        ConfigurationError: too few faces for a study.
        ModelError: a model file is missing or wrong.
    """
    if method in NOT_METHODS:
        seen, kept, _ = _trial(method, plan, NOT_METHODS[method](), (), tell)
        return Result(method=method, summary=seen, studies=(), sheets=kept)
    judge = AppraiserJudge(Appraiser(method, store=store))
    row = find_method(method)
    watching: list[Study] = [RegionStudy(), CounterpartStudy()]
    if plan.landmarks and row.normaliser in _READING:
        watching.append(LandmarkStudy())
    if plan.ablations and row.comparator == LOCALISED.name and row.normaliser == COUNTERPART.name:
        watching.append(AblationStudy(fusion_from(store.tensors(FUSION_MODEL))))
    studies: list[StudyTable] = []
    summary: Summary | None = None
    sheets: tuple[Sheet, ...] = ()
    if plan.trial:
        summary, sheets, verdicts = _trial(method, plan, judge, watching, tell)
        called = _called(method, plan, judge, verdicts, tell)
        studies += [called] if called is not None else []
    for study in watching:
        if not study.empty:
            studies += study.tables(repeats=plan.repeats)
    if plan.robustness:
        studies.append(_robustness(method, plan, judge, tell))
    if plan.people:
        studies.append(_subgroups(method, plan, judge, tell))
    return Result(method=method, summary=summary, studies=tuple(studies), sheets=sheets)


def _trial(
    method: str,
    plan: Plan,
    judge: Judge,
    studies: Sequence[Study],
    tell: Tell,
) -> tuple[Summary, tuple[Sheet, ...], list[Verdict]]:
    images = len(plan.faces) * (1 + len(plan.makers) * len(SEVERITIES))
    kept: list[Sheet] = []
    shams = 0

    def keep(sheet: Sheet) -> None:
        nonlocal shams
        shams += sheet.kind == "sham"
        if shams <= SHEET_FACES and sheet.severity in {0.0, 0.5}:
            kept.append(sheet)
        for study in studies:
            study.see(sheet)

    verdicts: list[Verdict] = []
    began = time.monotonic()
    for verdict in trial(plan.faces, plan.makers, judge, seed=plan.seed, keep=keep):
        verdicts.append(verdict)
        tell(method, len(verdicts), images)
    each = 1000 * (time.monotonic() - began) / len(verdicts)
    return summarise(method, verdicts, repeats=plan.repeats, milliseconds=each), tuple(kept), verdicts


def _called(
    method: str, plan: Plan, judge: Judge, verdicts: Sequence[Verdict], tell: Tell
) -> StudyTable | None:
    """What the threshold in use makes of the trial's images and of placebos."""
    if all(verdict.percentile is None for verdict in verdicts):
        return None
    shown: list[Verdict] = []
    for verdict in placebos(plan.faces, judge, seed=plan.seed):
        shown.append(verdict)
        tell(f"{method}: placebos", len(shown), PLACEBOS * len(plan.faces))
    return threshold_table([*verdicts, *shown], repeats=plan.repeats)


def _robustness(method: str, plan: Plan, judge: Judge, tell: Tell) -> StudyTable:
    return measure_robustness(
        plan.faces,
        judge,
        repeats=plan.repeats,
        tell=lambda done, total: tell(f"{method}: robustness", done, total),
    )


def _subgroups(method: str, plan: Plan, judge: Judge, tell: Tell) -> StudyTable:
    return measure_subgroups(
        plan.people,
        plan.makers,
        judge,
        repeats=plan.repeats,
        seed=plan.seed,
        tell=lambda done, total: tell(f"{method}: subgroups", done, total),
    )
