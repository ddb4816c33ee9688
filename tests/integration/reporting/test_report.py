"""The reporting step with a real database and store: all or nothing, once however often it runs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    SecondaryCaptureImageStorage,
)

from reporting.dicom.context import ReportContext
from reporting.dicom.secondary_capture import jpeg_of
from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.results import observation_id
from reporting.pictures import pictures_of
from reporting.report import report
from reporting.source import default_zone, read_source
from service.config import Settings
from service.database import appraisals, instances, ledger, pictures
from service.database.delivery import deliveries
from service.database.pool import Pool, transaction
from service.errors import CorruptInstanceError, ResultError, StoredMapError
from service.pictures.encode import encode_jpeg, encode_png
from service.pipeline.attempt import Outcome, attempt
from service.pipeline.context import Context
from service.records import Delivery, InstanceState, LedgerEvent, PictureEncoding
from service.steps import REPORT
from service.storage.local import InstanceStore
from tests.integration.reporting.judging import DESTINATIONS, again, judge, keep_npy, keep_png, save
from tests.unit.reporting.photographs import (
    SOP_UID,
    STUDY_UID,
    appraised,
    photograph,
    pixels,
    rejected,
)


@pytest.fixture
def context(settings: Settings, pool: Pool, store: InstanceStore) -> Context:
    configured = settings.model_copy(
        update={"destinations": DESTINATIONS, "timezone": "Europe/Berlin", "step_max_attempts": 1}
    )
    return Context(settings=configured, pool=pool, store=store)


def due(context: Context, instance_id: int) -> list[Delivery]:
    with transaction(context.pool) as connection:
        return deliveries.for_instance(connection, instance_id)


def state(context: Context, instance_id: int) -> InstanceState:
    with transaction(context.pool) as connection:
        return instances.get(connection, instance_id).state


def events(context: Context) -> list[LedgerEvent]:
    with transaction(context.pool) as connection:
        return [entry.event for entry in ledger.entries(connection, SOP_UID)]


def resources(context: Context) -> int:
    with transaction(context.pool) as connection:
        row = connection.execute("SELECT count(*) AS n FROM fhir_resource").fetchone()
        assert row is not None
        return int(row["n"])


def test_every_result_is_kept_and_due_at_every_destination(context: Context) -> None:
    instance_id = judge(context)
    report(context, instance_id)
    rows = due(context, instance_id)
    assert {(row.destination, row.sop_class_uid) for row in rows} == {
        (destination.name, sop_class)
        for destination in DESTINATIONS
        for sop_class in (SecondaryCaptureImageStorage, Comprehensive3DSRStorage)
    }
    for row in rows:
        kept = dcmread(BytesIO(context.store.read(row.sha256)))
        assert (kept.SOPInstanceUID, kept.StudyInstanceUID) == (row.sop_instance_uid, STUDY_UID)
    assert state(context, instance_id) is InstanceState.REPORTED
    assert events(context) == [LedgerEvent.RECEIVED, LedgerEvent.REPORTED]


def test_the_observation_is_saved_with_it(context: Context) -> None:
    instance_id = judge(context)
    report(context, instance_id)
    with transaction(context.pool) as connection:
        (saved,) = appraisals.for_instance(connection, instance_id)
        source = read_source(photograph(), default_zone("Europe/Berlin"))
        wanted = observation_id(ReportContext(source=source, saved=saved, organisation="Clinic"))
        observation = fhir_resources.read(connection, "Observation", wanted)
    assert observation is not None
    assert "2.34375" in observation.body


def test_the_ledger_names_results_and_no_patient(context: Context) -> None:
    instance_id = judge(context)
    report(context, instance_id)
    with transaction(context.pool) as connection:
        detail = ledger.entries(connection, SOP_UID)[-1].detail
    uids = {row.sop_instance_uid for row in due(context, instance_id)}
    assert set(detail.values()) == uids


def test_without_destinations_nothing_else_is_due(context: Context) -> None:
    lonely = replace(context, settings=context.settings.model_copy(update={"destinations": ()}))
    instance_id = judge(lonely)
    report(lonely, instance_id)
    assert due(lonely, instance_id) == []
    assert state(lonely, instance_id) is InstanceState.DELIVERED


def test_a_second_run_changes_nothing(context: Context) -> None:
    instance_id = judge(context)
    report(context, instance_id)
    first, kept = due(context, instance_id), resources(context)
    again(context, instance_id)
    report(context, instance_id)
    assert due(context, instance_id) == first
    assert resources(context) == kept


def test_runs_at_once_give_one_set(context: Context) -> None:
    instance_id = judge(context)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: report(context, instance_id), range(4)))
    assert len(due(context, instance_id)) == 4
    assert events(context).count(LedgerEvent.REPORTED) == 1


def test_only_one_of_many_workers_reports(context: Context) -> None:
    instance_id = judge(context)
    with ThreadPoolExecutor(4) as threads:
        outcomes = list(threads.map(lambda _: attempt(context, REPORT, report, instance_id), range(4)))
    assert sorted(outcomes) == [Outcome.DONE, *[Outcome.NOT_DUE] * 3]


def test_each_appraisal_is_reported(context: Context) -> None:
    instance_id = judge(context)
    report(context, instance_id)
    first = {row.sop_instance_uid for row in due(context, instance_id)}
    save(context, instance_id, rejected())
    again(context, instance_id)
    report(context, instance_id)
    new = [row for row in due(context, instance_id) if row.sop_instance_uid not in first]
    assert {row.sop_class_uid for row in new} == {Comprehensive3DSRStorage}
    assert len(due(context, instance_id)) == 6


def test_a_rejected_photograph_is_reported(context: Context) -> None:
    instance_id = judge(context, rejected())
    report(context, instance_id)
    assert {row.sop_class_uid for row in due(context, instance_id)} == {Comprehensive3DSRStorage}
    assert state(context, instance_id) is InstanceState.REPORTED


def test_the_parametric_map_is_made_where_it_is_wanted(context: Context) -> None:
    wanted = replace(context, settings=context.settings.model_copy(update={"parametric_map": True}))
    saved = appraised(heatmap_sha256=keep_png(context.store), difference_map_sha256=keep_npy(context.store))
    instance_id = judge(wanted, saved)
    report(wanted, instance_id)
    assert len({row.sop_class_uid for row in due(wanted, instance_id)}) == 3


PICTURE, PNG = encode_jpeg(pixels(60, 50)), encode_png(pixels(60, 50))


def drawn(context: Context, **encodings: bytes) -> int:
    """An appraisal whose pictures wait; returns its instance."""
    given = {"jpeg": PICTURE} | encodings
    saved = appraised(heatmap_sha256=sha256(given["jpeg"]).hexdigest())
    instance_id = judge(context, saved)
    with transaction(context.pool) as connection:
        by_encoding = {PictureEncoding(name): data for name, data in given.items()}
        pictures.hand_over(connection, saved.appraisal.appraisal_id, by_encoding)
    return instance_id


def captures(context: Context, instance_id: int) -> dict[str, FileDataset]:
    """What each destination gets of the picture."""
    return {
        row.destination: dcmread(BytesIO(context.store.read(row.sha256)))
        for row in due(context, instance_id)
        if row.sop_class_uid == SecondaryCaptureImageStorage
    }


def test_a_picture_that_waits_becomes_the_secondary_capture_and_waits_no_more(context: Context) -> None:
    instance_id = drawn(context)
    report(context, instance_id)
    assert {jpeg_of(each) for each in captures(context, instance_id).values()} == {PICTURE}
    with transaction(context.pool) as connection:
        (saved,) = appraisals.for_instance(connection, instance_id)
        assert pictures.pending(connection, saved.appraisal.appraisal_id) == {}
        found = pictures_of(connection, context.store, saved)
    assert found is not None
    assert found.picture == PICTURE  # out of its Secondary Capture
    before = due(context, instance_id)
    again(context, instance_id)
    report(context, instance_id)
    assert due(context, instance_id) == before


def test_a_destination_gets_the_picture_as_it_wants_it(context: Context) -> None:
    both = (DESTINATIONS[0], DESTINATIONS[1].model_copy(update={"lossless": True}))
    configured = replace(context, settings=context.settings.model_copy(update={"destinations": both}))
    instance_id = drawn(configured, png=PNG)
    report(configured, instance_id)
    got = captures(configured, instance_id)
    assert got["pacs"].file_meta.TransferSyntaxUID == JPEGBaseline8Bit
    assert got["vna"].file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert np.array_equal(got["vna"].pixel_array, pixels(60, 50))
    assert len(due(configured, instance_id)) == 4  # a picture and a report each


def test_a_destination_that_wants_no_loss_gets_what_there_is_of_an_older_picture(context: Context) -> None:
    lossless = (DESTINATIONS[0].model_copy(update={"lossless": True}),)
    configured = replace(context, settings=context.settings.model_copy(update={"destinations": lossless}))
    instance_id = drawn(configured)
    report(configured, instance_id)
    assert jpeg_of(captures(configured, instance_id)["pacs"]) == PICTURE


def test_a_picture_that_is_another_appraisals_is_not_shown(context: Context) -> None:
    saved = appraised(heatmap_sha256="ab" * 32)
    instance_id = judge(context, saved)
    with transaction(context.pool) as connection:
        pictures.hand_over(connection, saved.appraisal.appraisal_id, {PictureEncoding.JPEG: PICTURE})
    with pytest.raises(StoredMapError):
        report(context, instance_id)
    assert nothing_kept(context, instance_id)


def nothing_kept(context: Context, instance_id: int) -> bool:
    return (
        due(context, instance_id) == []
        and resources(context) == 0
        and state(context, instance_id) is InstanceState.APPRAISED
    )


def test_a_photograph_damaged_on_disk_is_not_reported(context: Context) -> None:
    instance_id = judge(context)
    with transaction(context.pool) as connection:
        sha256 = instances.get(connection, instance_id).sha256
    (path,) = context.settings.storage_dir.rglob(sha256)
    path.chmod(0o600)
    path.write_bytes(b"damaged")
    with pytest.raises(CorruptInstanceError):
        report(context, instance_id)
    assert nothing_kept(context, instance_id)


def test_a_lost_picture_is_an_error(context: Context) -> None:
    instance_id = judge(context, appraised())
    with pytest.raises(StoredMapError, match="is gone"):
        report(context, instance_id)
    assert nothing_kept(context, instance_id)


def test_a_heatmap_that_is_none_ends_as_a_dead_letter(context: Context) -> None:
    instance_id = judge(context, appraised(heatmap_sha256=context.store.put(b"no picture").sha256))
    assert attempt(context, REPORT, report, instance_id) is Outcome.DEAD
    assert due(context, instance_id) == []
    assert resources(context) == 0
    assert events(context)[-1] is LedgerEvent.DEAD


def test_an_instance_without_an_appraisal_is_an_error(context: Context) -> None:
    instance_id = judge(context)
    with transaction(context.pool) as connection:
        connection.execute("DELETE FROM appraisal")
    with pytest.raises(ResultError, match="no appraisal"):
        report(context, instance_id)
