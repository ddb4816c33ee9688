"""A clinic for tests: photographs received, judged and reported, operations written, pairs made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from io import BytesIO
from typing import Any
from uuid import uuid4

import numpy as np
from PIL import Image

from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.persons.changing import save_patients
from reporting.fhir.render import draft_of, loads
from reporting.fhir.site import site_of
from reporting.fhir.valid.validate import check
from reporting.identifiers import fhir_id
from reporting.outcomes.following.follow import ask, pair_patients
from reporting.outcomes.following.publish import report_change
from reporting.report import report, report_again
from service.appraisal.repeatability import REPEATABILITY_DIR, load_repeatability
from service.database import appraisals, instances
from service.database.pool import transaction
from service.pipeline.context import Context
from service.records import (
    Appraisal,
    AppraisalStatus,
    InstanceState,
    MethodIdentity,
    NewInstance,
    QualityMeasures,
    Region,
    RegionScore,
    RejectionReason,
)
from service.steps import PAIR, REPORT_AGAIN, REPORT_CHANGE
from tests.unit.reporting.photographs import COLUMNS, ROWS, photograph, pixels

DEFAULT = load_repeatability(REPEATABILITY_DIR / "default-3.json").method
SYMMETRY = load_repeatability(REPEATABILITY_DIR / "symmetry-1.json").method
ISSUER = "HOSPITAL-A"
LIP_REPAIR = "80872004"
SHARP = QualityMeasures(
    faces=1, inter_ocular_px=400, yaw_deg=1, pitch_deg=1, roll_deg=0, blur_percent=0.2, noise_sigma=1,
    exposure_ev=0, light_asymmetry_ev=0, clipped_fraction=0, jpeg_quality=95,
)  # fmt: skip
_REGIONS = (Region.FACE, Region.NOSE, Region.UPPER_LIP)
_TASKS = {
    PAIR.task: pair_patients,
    REPORT_CHANGE.task: report_change,
    REPORT_AGAIN.task: report_again,
}


class Clinic:
    """Works on a context as the workers do."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def photograph(
        self,
        patient: str,
        taken_on: date | None,
        score: float,
        *,
        method: MethodIdentity = DEFAULT,
        quality: QualityMeasures = SHARP,
        rejected: RejectionReason | None = None,
        scores: Mapping[Region, float | None] | None = None,
        **attributes: object,
    ) -> int:
        """Receive, judge and report a photograph; returns its instance."""
        uid = f"2.25.{uuid4().int}"
        day = taken_on.strftime("%Y%m%d") if taken_on else None
        data = photograph(
            **{
                "SOPInstanceUID": uid, "StudyInstanceUID": f"2.25.{uuid4().int}", "PatientID": patient,
                "StudyDate": day, "StudyTime": "100000" if day else None,
                "AcquisitionDateTime": f"{day}100000" if day else None, "InstitutionName": "North",
                "PatientBirthDate": "20230110",
            }
            | attributes
        )  # fmt: skip
        stored = self.context.store.put(data)
        with transaction(self.context.pool) as connection:
            _, instance_id = instances.receive(
                connection,
                NewInstance(
                    sop_instance_uid=uid,
                    sop_class_uid="1.2.840.10008.5.1.4.1.1.77.1.4",
                    study_instance_uid="2.25.1",
                    series_instance_uid="2.25.2",
                    transfer_syntax_uid="1.2.840.10008.1.2.4.50",
                    patient_id=patient,
                    issuer_of_patient_id=ISSUER,
                    calling_ae_title="CAMERA",
                    called_ae_title="SEMBLANCE",
                    peer_address="127.0.0.1",
                    sha256=stored.sha256,
                    size_bytes=stored.size_bytes,
                ),
            )
        self.judge(instance_id, score, method=method, quality=quality, rejected=rejected, scores=scores)
        with transaction(self.context.pool) as connection:
            instances.set_state(connection, instance_id, InstanceState.APPRAISED)
        report(self.context, instance_id)
        return instance_id

    def judge(
        self,
        instance_id: int,
        score: float,
        *,
        method: MethodIdentity = DEFAULT,
        quality: QualityMeasures = SHARP,
        rejected: RejectionReason | None = None,
        scores: Mapping[Region, float | None] | None = None,
    ) -> Appraisal:
        """Save a result of a photograph."""
        values = dict.fromkeys(_REGIONS, score) | dict(scores or {})
        with transaction(self.context.pool) as connection:
            uid = instances.get(connection, instance_id).sop_instance_uid
            appraisal = Appraisal(
                appraisal_id=uuid4(),
                sop_instance_uid=uid,
                pixel_sha256="0" * 64,
                method=method,
                status=AppraisalStatus.REJECTED if rejected else AppraisalStatus.APPRAISED,
                reasons=(rejected,) if rejected else (),
                score=None if rejected else score,
                rating=None,
                percentile=None,
                regions=()
                if rejected
                else tuple(
                    RegionScore(region=region, score=value, z=None, judged=0.0 if value is None else 1.0)
                    for region, value in values.items()
                ),
                quality=quality,
            )
            appraisals.save(
                connection,
                instance_id=instance_id,
                appraisal=appraisal,
                heatmap_sha256="" if rejected else self._png(),
                difference_map_sha256="" if rejected else self._npy(),
            )
        return appraisal

    def _png(self) -> str:
        stream = BytesIO()
        Image.fromarray(pixels(60, 50)).save(stream, "PNG")
        return self.context.store.put(stream.getvalue()).sha256

    def _npy(self) -> str:
        stream = BytesIO()
        np.save(stream, np.zeros((ROWS, COLUMNS), np.float32))
        return self.context.store.put(stream.getvalue()).sha256

    def operate(
        self,
        patient: str,
        performed_on: date,
        *,
        name: str = "op-1",
        surgeon: str = "Practitioner/s1",
        **changes: Any,
    ) -> str:
        """Write a Procedure as the EHR does; returns its logical id."""
        resource = {
            "resourceType": "Procedure",
            "id": name,
            "status": "completed",
            "code": {"coding": [{"system": "http://snomed.info/sct", "code": LIP_REPAIR}]},
            "subject": {"reference": f"Patient/{patient_of(patient)}"},
            "performedDateTime": performed_on.isoformat(),
            "performer": [{"actor": {"reference": surgeon}}],
        } | changes
        self.write(resource)
        return name

    def write(self, resource: Mapping[str, Any], patient: str | None = None) -> None:
        """Save a resource as a client does."""
        check(dict(resource))
        draft = draft_of(resource, site=site_of(self.context.settings), patient=patient)
        with transaction(self.context.pool) as connection:
            if resource["resourceType"] == "Patient":
                save_patients(connection, [draft], author="ehr", site=site_of(self.context.settings))
            else:
                fhir_resources.save(connection, [draft], author="ehr")

    def settle(self) -> None:
        """Let the relay and the workers do what is due, until nothing is."""
        ask(self.context.pool, self.context.settings)
        while taken := self._take():
            for task, subject in taken:
                _TASKS[task](self.context, int(subject))
            ask(self.context.pool, self.context.settings)

    def _take(self) -> list[tuple[str, str]]:
        with transaction(self.context.pool) as connection:
            rows = connection.execute(
                "DELETE FROM outbox WHERE task = ANY(%s) RETURNING task, subject_id", (list(_TASKS),)
            ).fetchall()
        return [(row["task"], row["subject_id"]) for row in rows]

    def rows(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        """What a query answers."""
        with transaction(self.context.pool) as connection:
            return list(connection.execute(query.encode(), parameters))

    def faces(self, *, valid: bool = True) -> list[dict[str, Any]]:
        """Changes of the whole face."""
        return self.rows(
            "SELECT * FROM outcome_change WHERE region = 'face' AND valid = %s"
            " ORDER BY window_name, created_at",
            valid,
        )

    def states(self) -> dict[str, tuple[str, str]]:
        """State and reason by window."""
        rows = self.rows("SELECT window_name, state, reason FROM outcome_state")
        return {row["window_name"]: (row["state"], row["reason"]) for row in rows}

    def observation(self, logical_id: str) -> dict[str, Any]:
        """An Observation as it is now."""
        with transaction(self.context.pool) as connection:
            stored = fhir_resources.read(connection, "Observation", logical_id)
        assert stored is not None
        found: dict[str, Any] = loads(stored.body)
        return found


def patient_of(patient_id: str) -> str:
    """Logical id that photographs of a patient ID have."""
    return fhir_id("Patient", ISSUER, patient_id)


def worse(quality: QualityMeasures = SHARP) -> QualityMeasures:
    """A little less sharp."""
    return replace(quality, blur_percent=1.0)


def days(number: int) -> timedelta:
    """So many days."""
    return timedelta(days=number)
