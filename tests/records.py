"""Rows as the pipeline makes them."""

from __future__ import annotations

from uuid import uuid4

from service.database import appraisals
from service.database.delivery import deliveries
from service.database.pool import Connection
from service.records import (
    Appraisal,
    AppraisalStatus,
    ExclusionReason,
    MethodIdentity,
    NewInstance,
    QualityMeasures,
    Region,
    RegionScore,
    RejectionReason,
)


def offered(uid: str = "1.2.3", sha256: str = "a" * 64) -> NewInstance:
    return NewInstance(
        sop_instance_uid=uid,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.77.1.4",
        study_instance_uid="1.2.3.4",
        series_instance_uid="1.2.3.5",
        transfer_syntax_uid="1.2.840.10008.1.2.4.50",
        patient_id="",
        issuer_of_patient_id="",
        calling_ae_title="CAMERA",
        called_ae_title="SEMBLANCE",
        peer_address="127.0.0.1",
        sha256=sha256,
        size_bytes=10,
    )


def judged(*, rejected: bool = False) -> Appraisal:
    return Appraisal(
        appraisal_id=uuid4(),
        sop_instance_uid="1.2.3",
        pixel_sha256="b" * 64,
        method=MethodIdentity(
            name="symmetry",
            version="1",
            normaliser="symmetry",
            comparator="ssim",
            weights_sha256="",
            config_sha256="c" * 64,
            calibration="",
        ),
        status=AppraisalStatus.REJECTED if rejected else AppraisalStatus.APPRAISED,
        reasons=(RejectionReason.YAW,) if rejected else (),
        score=None if rejected else 3.25,
        rating=None if rejected else 5.5,
        percentile=None if rejected else 40.0,
        regions=()
        if rejected
        else (
            RegionScore(region=Region.NOSE, score=2.5, z=None, judged=0.75),
            RegionScore(
                region=Region.LEFT_EYE,
                score=None,
                z=None,
                judged=0.0,
                reason=ExclusionReason.OCCLUDED,
                occluded=0.5,
            ),
        ),
        quality=QualityMeasures(faces=1, yaw_deg=3.5),
        warnings=("forehead left out",),
    )


def delivery(connection: Connection, instance_id: int, uid: str = "1.9") -> int:
    appraisal = judged()
    appraisals.save(
        connection, instance_id=instance_id, appraisal=appraisal, heatmap_sha256="", difference_map_sha256=""
    )
    row = {
        "instance_id": instance_id,
        "appraisal_id": appraisal.appraisal_id,
        "destination": "pacs",
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.7",
        "sop_instance_uid": uid,
        "sha256": "a" * 64,
    }
    delivery_id = deliveries.add(connection, **row)
    assert delivery_id is not None
    assert deliveries.add(connection, **row) is None
    return delivery_id
