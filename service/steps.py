"""The steps of one photograph, as a table: which task, on which queue, from which state to which."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from service.errors import UnknownStepError
from service.records import InstanceState


class Queue(StrEnum):
    """Queues of the broker; a worker serves one or more."""

    GPU = "gpu"  # appraisal: one process per device
    REPORT = "report"  # building result objects
    IO = "io"  # network deliveries


class Subject(StrEnum):
    """What the id in a task's message counts."""

    INSTANCE = "instance"
    DELIVERY = "delivery"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of the pipeline."""

    task: str  # name of the Celery task; stored and sent, so it never changes without an alias
    queue: Queue
    subject: Subject
    begins_in: InstanceState  # the only state the step works from
    ends_in: InstanceState


APPRAISE = Step(
    task="appraise",
    queue=Queue.GPU,
    subject=Subject.INSTANCE,
    begins_in=InstanceState.RECEIVED,
    ends_in=InstanceState.APPRAISED,
)
REPORT = Step(
    task="report",
    queue=Queue.REPORT,
    subject=Subject.INSTANCE,
    begins_in=InstanceState.APPRAISED,
    ends_in=InstanceState.REPORTED,
)
DELIVER = Step(
    task="deliver",
    queue=Queue.IO,
    subject=Subject.DELIVERY,
    begins_in=InstanceState.REPORTED,
    ends_in=InstanceState.DELIVERED,
)
STEPS = (APPRAISE, REPORT, DELIVER)


@dataclass(frozen=True, kw_only=True)
class Errand:
    """Work beside the pipeline: its subject keeps a state of its own, no photograph waits for it."""

    task: str  # name of the Celery task; stored and sent, so it never changes without an alias
    queue: Queue


NOTIFY = Errand(task="notify", queue=Queue.IO)
# Brings a study's DiagnosticReport up to date; its subject is any photograph of the study.
REPORT_STUDY = Errand(task="report-study", queue=Queue.REPORT)
# Makes the results of a photograph anew: whose it is is another now, or another method judged it.
REPORT_AGAIN = Errand(task="report-again", queue=Queue.REPORT)
# Makes the pairs of a patient anew, and of others that wait; its subject is a row of outcome_patient.
PAIR = Errand(task="pair", queue=Queue.REPORT)
# Brings the Observation of a change up to date; its subject is a row of outcome_unpublished.
REPORT_CHANGE = Errand(task="report-change", queue=Queue.REPORT)
# Appraises an older photograph by the method in force.
REAPPRAISE = Errand(task="reappraise", queue=Queue.GPU)
# Rates the results of a photograph by the calibration in force.
RERATE = Errand(task="rerate", queue=Queue.GPU)
ERRANDS = (NOTIFY, REPORT_STUDY, REPORT_AGAIN, PAIR, REPORT_CHANGE, REAPPRAISE, RERATE)

# Names that tasks had in messages a broker may still hold; migration 0080 rewrote those in the database.
FORMER_NAMES = {
    "service.tasks.appraise": APPRAISE.task,
    "reporting.tasks.report": REPORT.task,
    "dicom_node.tasks.deliver": DELIVER.task,
    "reporting.notifications.notify": NOTIFY.task,
    "reporting.tasks.report_study": REPORT_STUDY.task,
}
_STEP_OF_TASK = {step.task: step for step in STEPS}


def names_of(task: str) -> tuple[str, ...]:
    """Every name a task answers to: its own, then those it had before."""
    return (task, *(former for former, now in FORMER_NAMES.items() if now == task))


def step_named(task: str) -> Step:
    """The step of a task, by its name or one it had before.

    Raises:
        UnknownStepError: No step of this version has that name.
    """
    step = _STEP_OF_TASK.get(FORMER_NAMES.get(task, task))
    if step is None:
        raise UnknownStepError(f"no step is called {task!r}; there are {', '.join(_STEP_OF_TASK)}")
    return step
