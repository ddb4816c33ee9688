"""Photographs that were reported, and notes that reject them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ExplicitVRLittleEndian,
    KeyObjectSelectionDocumentStorage,
    VLPhotographicImageStorage,
    generate_uid,
)

from dicom_node.acceptor.scp import Node
from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.render import loads
from reporting.holdings.database import holdings
from reporting.holdings.index import catch_up
from reporting.identifiers import ResultKind, observation_id_of, result_uid
from reporting.report import report
from service.database import appraisals, instances, ledger
from service.database.pool import transaction
from service.pipeline.attempt import Outcome, attempt
from service.pipeline.context import Context
from service.records import InstanceState, LedgerEvent, SavedAppraisal
from service.steps import REPORT
from tests import dicom_objects
from tests.dicom_objects import photograph
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


def sent(node: Node, ds: Dataset) -> int:
    """Send one object; answers the status."""
    return int(dicom_objects.store(node.port, ds).Status)


def one_of(study: str, **more: Any) -> Dataset:
    """A photograph of a study."""
    ds = photograph(**more)
    ds.StudyInstanceUID = study
    return ds


def state(context: Context, ds: Dataset) -> InstanceState:
    """Where a photograph is."""
    with transaction(context.pool) as connection:
        found = instances.by_uid(connection, ds.SOPInstanceUID)
    assert found is not None
    return found.state


def events(context: Context, uid: str) -> list[LedgerEvent]:
    """What the ledger says of an object."""
    with transaction(context.pool) as connection:
        return [each.event for each in ledger.entries(connection, uid)]


def held(context: Context, study: str) -> set[str]:
    """What queries and retrievals find of a study."""
    assert catch_up(context.pool, context.store, 60)
    with transaction(context.pool) as connection:
        return {each.sop_instance_uid for each in holdings.of_study(connection, study)}


def resource(context: Context, resource_type: str, resource_id: str) -> dict[str, Any]:
    """A FHIR resource as it is."""
    with transaction(context.pool) as connection:
        stored = fhir_resources.read(connection, resource_type, resource_id)
    assert stored is not None
    return loads(stored.body)


def observation(context: Context, saved: SavedAppraisal) -> dict[str, Any]:
    """The Observation of an appraisal."""
    return resource(context, "Observation", observation_id_of(str(saved.appraisal.appraisal_id)))


def heatmap(saved: SavedAppraisal, version: int = 1) -> str:
    """SOP Instance UID of an appraisal's heatmap."""
    return result_uid(saved.appraisal.appraisal_id, ResultKind.SECONDARY_CAPTURE, version)
