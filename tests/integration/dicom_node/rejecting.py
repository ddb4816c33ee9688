"""Photographs that were reported, and notes that reject them."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ExplicitVRLittleEndian,
    KeyObjectSelectionDocumentStorage,
    VLPhotographicImageStorage,
    generate_uid,
)

from reporting.report import report
from service.database import appraisals, instances
from service.database.pool import transaction
from service.pipeline.attempt import Outcome, attempt
from service.pipeline.context import Context
from service.records import InstanceState, SavedAppraisal
from service.steps import REPORT
from tests.integration.reporting.judging import keep_npy, keep_png
from tests.unit.reporting.photographs import appraised

QUALITY, SAFETY, WORKLIST, RETENTION = "113001", "113037", "113038", "113039"


def item(**attributes: object) -> Dataset:
    """An item of a sequence."""
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def note(
    *rejected: Dataset | tuple[str, str, str],
    title: str = QUALITY,
    patient_id: str = "P1",
    issuer: str = "",
    scheme: str = "DCM",
) -> Dataset:
    """A rejection note (PS3.3 section A.35.4).

    Args:
        rejected: What it names; a tuple is SOP class, instance and study.
        title: Its code.
        patient_id: Whom it is about.
        issuer: Of that number.
        scheme: Of the code.
    """
    named = [each if isinstance(each, tuple) else _named(each) for each in rejected]
    ds = item(
        SOPClassUID=KeyObjectSelectionDocumentStorage, SOPInstanceUID=generate_uid(), Modality="KO",
        StudyInstanceUID=named[0][2] if named else generate_uid(), SeriesInstanceUID=generate_uid(),
        PatientID=patient_id, PatientName="Doe^Jane", StudyDate="20260102", InstanceNumber=1,
        ValueType="CONTAINER", ContinuityOfContent="SEPARATE",
        ConceptNameCodeSequence=Sequence(
            [item(CodeValue=title, CodingSchemeDesignator=scheme, CodeMeaning="Rejected")]
        ),
        CurrentRequestedProcedureEvidenceSequence=Sequence([_evidence(*each) for each in named]),
    )  # fmt: skip
    if issuer:
        ds.IssuerOfPatientID = issuer
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def _named(ds: Dataset) -> tuple[str, str, str]:
    return str(ds.SOPClassUID), str(ds.SOPInstanceUID), str(ds.StudyInstanceUID)


def _evidence(sop_class: str, uid: str, study: str) -> Dataset:
    sop = item(ReferencedSOPClassUID=sop_class, ReferencedSOPInstanceUID=uid)
    series = item(SeriesInstanceUID=generate_uid(), ReferencedSOPSequence=Sequence([sop]))
    return item(StudyInstanceUID=study, ReferencedSeriesSequence=Sequence([series]))


def reported(context: Context, ds: Dataset) -> SavedAppraisal:
    """Have a photograph that was received appraised and reported; answers the appraisal."""
    assert ds.SOPClassUID == VLPhotographicImageStorage
    saved = appraised(heatmap_sha256=keep_png(context.store), difference_map_sha256=keep_npy(context.store))
    saved = replace(
        saved,
        appraisal=replace(saved.appraisal, appraisal_id=uuid4(), sop_instance_uid=str(ds.SOPInstanceUID)),
    )
    with transaction(context.pool) as connection:
        instance = instances.by_uid(connection, ds.SOPInstanceUID)
        assert instance is not None
        appraisals.save(
            connection,
            instance_id=instance.instance_id,
            appraisal=saved.appraisal,
            heatmap_sha256=saved.heatmap_sha256,
            difference_map_sha256=saved.difference_map_sha256,
        )
        instances.set_state(connection, instance.instance_id, InstanceState.APPRAISED)
    assert attempt(context, REPORT, report, instance.instance_id) is Outcome.DONE
    return replace(saved, instance_id=instance.instance_id)
