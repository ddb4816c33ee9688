"""The appraisal step: thin, safe to run twice, and its maps are kept as what they are."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import psutil
import pytest
from pydicom.uid import JPEG2000Lossless

from dicom_node.encoding.photographic import encode
from service.appraisal.pictures.placing import photograph_map
from service.appraisal.repeatability import REPEATABILITY_DIR, load_repeatability
from service.codecs.pool import shared_pool
from service.config import Settings
from service.database import appraisals, instances, ledger, outbox, pictures, reappraisals
from service.database.pool import Pool, transaction
from service.errors import InstanceNotStoredError
from service.peers import Destination
from service.pictures.encode import decode, describe
from service.pictures.native_map import read_map
from service.pipeline.appraise import appraise
from service.pipeline.attempt import Outcome, attempt
from service.pipeline.context import Context
from service.pipeline.reappraise import reappraise
from service.records import (
    AppraisalStatus,
    InstanceState,
    LedgerEvent,
    PictureEncoding,
    SavedAppraisal,
)
from service.steps import APPRAISE, REPORT, REPORT_AGAIN
from service.storage.local import InstanceStore
from tests.integration.receiving import receive
from tests.photographs import face, faceless, photograph
from tests.records import offered
from tests.unit.appraisal.photographs import encoded


@pytest.fixture
def context(settings: Settings, pool: Pool, store: InstanceStore) -> Context:
    return Context(settings=settings, pool=pool, store=store)


def test_an_appraisal_is_saved_with_its_maps_and_the_report_is_due(context: Context) -> None:
    instance_id = receive(context, encode(photograph()))
    assert attempt(context, APPRAISE, appraise, instance_id) is Outcome.DONE
    with transaction(context.pool) as connection:
        (saved,) = appraisals.for_instance(connection, instance_id)
        assert instances.get(connection, instance_id).state is InstanceState.APPRAISED
        assert [entry.event for entry in ledger.entries(connection, "1.2.3")] == [
            LedgerEvent.RECEIVED,
            LedgerEvent.APPRAISED,
        ]
        due = {(message.task, message.subject_id) for message in outbox.take_due(connection, 10)}
    assert (REPORT.task, str(instance_id)) in due
    assert saved.appraisal.status is AppraisalStatus.APPRAISED
    native = read_map(context.store.read(saved.difference_map_sha256))
    assert native.difference.shape == (256, 256)
    assert (native.rows, native.columns) == face().shape[:2]
    assert np.isfinite(native.difference).any()
    assert np.isnan(photograph_map(native)).any()
    assert decode(native.counterpart).shape == (256, 256, 3)
    drawn = waiting(context, saved)
    assert set(drawn) == {PictureEncoding.JPEG}
    assert hashlib.sha256(drawn[PictureEncoding.JPEG]).hexdigest() == saved.heatmap_sha256
    assert not context.store.contains(saved.heatmap_sha256)  # its Secondary Capture will be its only place
    assert describe(drawn[PictureEncoding.JPEG]).rows == face().shape[0]


def waiting(context: Context, saved: SavedAppraisal) -> Mapping[PictureEncoding, bytes]:
    with transaction(context.pool) as connection:
        return pictures.pending(connection, saved.appraisal.appraisal_id)


def test_pictures_are_drawn_as_the_settings_say(context: Context) -> None:
    lossless = Destination(name="vna", ae_title="VNA", host="127.0.0.1", port=11112, lossless=True)
    wanted = {"picture": "triptych", "picture_long_side_px": 600, "destinations": (lossless,)}
    configured = replace(context, settings=context.settings.model_copy(update=wanted))
    instance_id = receive(configured, encode(photograph()))
    appraise(configured, instance_id)
    with transaction(context.pool) as connection:
        (saved,) = appraisals.for_instance(connection, instance_id)
    drawn = waiting(configured, saved)
    assert set(drawn) == set(PictureEncoding)
    jpeg, png = (decode(drawn[each]).astype(int) for each in (PictureEncoding.JPEG, PictureEncoding.PNG))
    assert jpeg.shape == png.shape
    assert 580 < png.shape[1] <= 600
    assert png.shape[0] < png.shape[1] / 2
    assert np.abs(jpeg - png).mean() < 4


def test_running_it_twice_changes_nothing(context: Context) -> None:
    instance_id = receive(context, encode(photograph()))
    appraise(context, instance_id)
    with transaction(context.pool) as connection:
        before = appraisals.for_instance(connection, instance_id)
        messages = outbox.waiting(connection)
    appraise(context, instance_id)
    with transaction(context.pool) as connection:
        assert appraisals.for_instance(connection, instance_id) == before
        assert outbox.waiting(connection) == messages
        assert len(ledger.entries(connection, "1.2.3")) == 2


def test_a_rejected_photograph_has_no_maps(context: Context) -> None:
    instance_id = receive(context, encode(faceless()))
    appraise(context, instance_id)
    with transaction(context.pool) as connection:
        (saved,) = appraisals.for_instance(connection, instance_id)
        last = ledger.entries(connection, "1.2.3")[-1]
    assert (saved.heatmap_sha256, saved.difference_map_sha256) == ("", "")
    assert (last.event, last.detail["reasons"]) == (LedgerEvent.REJECTED, "no-face")


def test_bytes_that_are_gone(context: Context) -> None:
    with transaction(context.pool) as connection:
        _, instance_id = instances.receive(connection, offered())
    with pytest.raises(InstanceNotStoredError):
        appraise(context, instance_id)


@contextmanager
def decoders_killed() -> Iterator[None]:
    """Whatever decodes for this process is killed as soon as it works, as a decoder's abort() does."""
    stopped = threading.Event()

    def watch() -> None:
        seen: dict[int, float] = {}
        while not stopped.wait(0.01):
            for child in psutil.Process().children():
                with contextlib.suppress(psutil.Error):
                    if "service.codecs.child" not in " ".join(child.cmdline()) or child.status() == "zombie":
                        continue
                    used = sum(child.cpu_times()[:2])
                    rests = child.pid in shared_pool().pids()
                    if rests or child.pid not in seen:
                        seen[child.pid] = used
                    elif used > seen[child.pid] + 0.1:
                        child.kill()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        stopped.set()
        watcher.join()


def test_a_photograph_that_kills_its_decoder_twice_is_dead_with_that_reason(context: Context) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2400, 2400, 3), dtype=np.uint8)
    instance_id = receive(context, encoded(noise, JPEG2000Lossless))
    with decoders_killed():
        assert attempt(context, APPRAISE, appraise, instance_id) is Outcome.POSTPONED
        with transaction(context.pool) as connection:
            assert instances.get(connection, instance_id).state is InstanceState.RECEIVED
            instances.postpone(connection, instance_id, 0.0)
        assert attempt(context, APPRAISE, appraise, instance_id) is Outcome.DEAD
    with transaction(context.pool) as connection:
        assert instances.get(connection, instance_id).state is InstanceState.DEAD
        events = [
            (entry.event, entry.detail.get("error", "")) for entry in ledger.entries(connection, "1.2.3")
        ]
    assert [event for event, _ in events] == [LedgerEvent.RECEIVED, LedgerEvent.RETRIED, LedgerEvent.DEAD]
    assert "DecoderLostError" in events[-1][1]
    assert "SIGKILL" in events[-1][1]
    good = receive(context, encode(photograph()), "1.2.4")
    assert attempt(context, APPRAISE, appraise, good) is Outcome.DONE


def test_an_older_photograph_is_appraised_again_by_the_method_in_force(
    settings: Settings, pool: Pool, store: InstanceStore
) -> None:
    """With both methods' own models: what was found before stays, and progress tells how far it is."""
    before = Context(settings=settings.model_copy(update={"method": "symmetry"}), pool=pool, store=store)
    instance_id = receive(before, encode(photograph()))
    assert attempt(before, APPRAISE, appraise, instance_id) is Outcome.DONE
    now = Context(settings=settings.model_copy(update={"method": "default"}), pool=pool, store=store)
    phase = load_repeatability(REPEATABILITY_DIR / "default-3.json").method.phase
    with transaction(pool) as connection:
        assert reappraisals.want(connection, [instance_id], phase) == 1
        (progress,) = reappraisals.progress(connection)
    assert (progress.requested, progress.done, progress.failed) == (1, 0, 0)
    for _ in range(2):  # twice is once
        reappraise(now, instance_id)
    with transaction(pool) as connection:
        (progress,) = reappraisals.progress(connection)
        saved = appraisals.for_instance(connection, instance_id)
        assert (REPORT_AGAIN.task, str(instance_id)) in {
            (message.task, message.subject_id) for message in outbox.take_due(connection, 10)
        }
    assert (progress.phase, progress.done, progress.failed) == (phase, 1, 0)
    assert {each.appraisal.method.name for each in saved} == {"default", "symmetry"}
    assert all(each.appraisal.score is not None for each in saved)
