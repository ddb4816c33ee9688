"""The steps of one photograph, as a table: which task, on which queue, from which state to which."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

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

    task: str  # name of the Celery task
    queue: Queue
    subject: Subject
    begins_in: InstanceState  # the only state the step works from
    ends_in: InstanceState


APPRAISE = Step(
    task="service.pipeline.appraise.appraise",
    queue=Queue.GPU,
    subject=Subject.INSTANCE,
    begins_in=InstanceState.RECEIVED,
    ends_in=InstanceState.APPRAISED,
)
REPORT = Step(
    task="reporting.report.report",
    queue=Queue.REPORT,
    subject=Subject.INSTANCE,
    begins_in=InstanceState.APPRAISED,
    ends_in=InstanceState.REPORTED,
)
DELIVER = Step(
    task="dicom_node.delivery.deliver.deliver",
    queue=Queue.IO,
    subject=Subject.DELIVERY,
    begins_in=InstanceState.REPORTED,
    ends_in=InstanceState.DELIVERED,
)
STEPS = (APPRAISE, REPORT, DELIVER)


@dataclass(frozen=True, kw_only=True)
class Errand:
    """Work beside the pipeline: its subject keeps a state of its own, no photograph waits for it."""

    task: str  # name of the Celery task
    queue: Queue


NOTIFY = Errand(task="reporting.fhir.subscriptions.notifications.notify", queue=Queue.IO)
# Brings a study's DiagnosticReport up to date; its subject is any photograph of the study.
REPORT_STUDY = Errand(task="reporting.report.report_study", queue=Queue.REPORT)
ERRANDS = (NOTIFY, REPORT_STUDY)

STEP_OF_TASK = {step.task: step for step in STEPS}
