"""A hospital that calibrates: photographs reported by one calibration, workers that rate by another."""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.render import loads
from reporting.identifiers import observation_id_of
from reporting.report import report, report_again
from service.appraisal.calibration import load_calibration
from service.appraisal.model_files.models import ModelStore
from service.appraisal.rerating import rater_of
from service.config import Settings
from service.database import appraisals, instances, ledger, outbox, reratings
from service.database.pool import open_pool, transaction
from service.pipeline.again.rerate import put_in_force, rerate
from service.pipeline.again.rerate_due import ask_to_rerate
from service.pipeline.attempt import Outcome, attempt
from service.pipeline.context import Context
from service.records import LedgerEvent, NewInstance, SavedAppraisal
from service.steps import REPORT, REPORT_AGAIN, RERATE
from service.storage.local import open_store
from service.training.rated_calibration import install_calibration
from tests.integration.reporting.judging import keep_png
from tests.unit.reporting.photographs import SERIES_UID, STUDY_UID, appraised, photograph

SHIPPED = "symmetry-1"
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])
_WORK = {RERATE.task: rerate, REPORT_AGAIN.task: report_again}


def calibrated(directory: Path, name: str = "a", *, strictness: float = 0.5) -> Path:
    """A directory of models with a site's own calibration of *symmetry*; its version ends in ``name``."""
    shipped = load_calibration(SHIPPED)
    own = replace(
        shipped,
        version=f"symmetry-ratings-linear-{name}",
        rating_knots=((0.0, 1.0), (6.0 + strictness, 7.0)),
        normal_quantiles=tuple(value + strictness for value in shipped.normal_quantiles),
    )
    install_calibration(own, directory)
    return directory


def workers(context: Context, model_dir: Path | None) -> Context:
    """The context of workers with another directory of models, once they have started."""
    chosen = {"method": "symmetry", "model_dir": model_dir}
    made = replace(context, settings=context.settings.model_copy(update=chosen))
    put_in_force(made)
    return made


def issued(context: Context, uid: str = "2.25.11", *, calibration: str = SHIPPED, **method: str) -> int:
    """A photograph that was appraised by *symmetry* and reported; returns its instance."""
    stored = context.store.put(photograph(SOPInstanceUID=uid))
    shipped = rater_of("symmetry", ModelStore())
    saved = _judged(context, uid)
    identity = replace(shipped.method, calibration=calibration, **method)
    with transaction(context.pool) as connection:
        _, instance_id = instances.receive(
            connection,
            NewInstance(
                sop_instance_uid=uid,
                sop_class_uid="1.2.840.10008.5.1.4.1.1.77.1.4",
                study_instance_uid=STUDY_UID,
                series_instance_uid=SERIES_UID,
                transfer_syntax_uid="1.2.840.10008.1.2.4.50",
                patient_id="P-001",
                issuer_of_patient_id="HOSPITAL-A",
                calling_ae_title="CAMERA",
                called_ae_title="SEMBLANCE",
                peer_address="127.0.0.1",
                sha256=stored.sha256,
                size_bytes=stored.size_bytes,
            ),
        )
        appraisals.save(
            connection,
            instance_id=instance_id,
            appraisal=replace(saved.appraisal, method=identity),
            heatmap_sha256=saved.heatmap_sha256,
            difference_map_sha256="",
        )
        instances.set_state(connection, instance_id, REPORT.begins_in)
    assert attempt(context, REPORT, report, instance_id) is Outcome.DONE
    return instance_id


def _judged(context: Context, uid: str) -> SavedAppraisal:
    saved = appraised(heatmap_sha256=keep_png(context.store))
    return replace(saved, appraisal=replace(saved.appraisal, appraisal_id=uuid4(), sop_instance_uid=uid))


def messages(context: Context) -> list[tuple[str, int]]:
    """What is due of ours, taken from the outbox: task and instance."""
    with transaction(context.pool) as connection:
        taken = outbox.take_due(connection, 1000)
        outbox.delete(connection, [each.outbox_id for each in taken])
    return [(each.task, int(each.subject_id)) for each in taken if each.task in _WORK]


def work(context: Context) -> int:
    """Relay and workers until nothing is due; returns how many messages that took."""
    done = 0
    while True:
        ask_to_rerate(context.pool, context.settings)
        taken = messages(context)
        if not taken:
            return done
        for task, instance_id in taken:
            _WORK[task](context, instance_id)
            done += 1


def result(context: Context, instance_id: int) -> SavedAppraisal:
    with transaction(context.pool) as connection:
        (saved,) = appraisals.for_instance(connection, instance_id)
    return saved


def versions(context: Context, saved: SavedAppraisal) -> list[dict[str, Any]]:
    """Of the result's Observation, newest first."""
    name = observation_id_of(str(saved.appraisal.appraisal_id))
    with transaction(context.pool) as connection:
        found = fhir_resources.history(connection, "Observation", name, count=10)
    return [loads(each.body) for each in found]


def component(observation: dict[str, Any], code: str) -> float:
    (found,) = (each for each in observation["component"] if each["code"]["coding"][0]["code"] == code)
    return float(found["valueQuantity"]["value"])


def rated_lines(context: Context, uid: str = "2.25.11") -> list[dict[str, str]]:
    with transaction(context.pool) as connection:
        entries = ledger.entries(connection, uid)
    return [dict(each.detail) for each in entries if each.event is LedgerEvent.RERATED]


def progress(context: Context) -> reratings.Progress:
    with transaction(context.pool) as connection:
        (found,) = reratings.progress(connection)
    return found


def lost(context: Context) -> None:
    """What was asked for counts as lost: so long ago that the relay asks again."""
    with transaction(context.pool) as connection:
        connection.execute("UPDATE rerating SET asked_at = asked_at - interval '1 day'")


class RatingProcess:
    """A worker that rates one photograph's results anew, and may be killed while it does."""

    def __init__(self, settings: Settings, instance_id: int) -> None:
        """Begins at once."""
        self._process = _CONTEXT.Process(target=_rate, args=(settings, instance_id), daemon=True)
        self._process.start()

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.join(10)
        self._process.close()


def _rate(settings: Settings, instance_id: int) -> None:
    with open_pool(settings) as pool:
        rerate(Context(settings=settings, pool=pool, store=open_store(settings)), instance_id)
