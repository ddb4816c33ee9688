"""The appraisal step: a photograph's bytes in, an appraisal and its maps kept."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from service.appraisal.appraiser import Appraised
from service.codecs.pool import shared_pool
from service.config import Settings
from service.database import appraisals, instances, pictures, rejections, reratings
from service.database.delivery import deliveries
from service.database.pool import Connection, transaction
from service.meters import APPRAISED_AFTER_SECONDS
from service.pictures.encode import encode_jpeg, encode_png
from service.pictures.native_map import encode_map
from service.pipeline.again.rerate import put_in_force
from service.pipeline.celery_app import task
from service.pipeline.context import Context
from service.pipeline.deadline import still_wanted
from service.pipeline.gpu import appraiser_of, memory_budget, needed_bytes
from service.pipeline.origin import kept_reason
from service.pipeline.progress import appraised, kept
from service.records import AppraisalStatus, InstanceState, LedgerEvent, PictureEncoding
from service.steps import APPRAISE
from service.storage.local import InstanceStore


def _load_models(context: Context) -> None:
    """Build the method, and start a decoder, before the first photograph comes."""
    shared_pool().warm()
    appraiser_of(context.settings).load()
    put_in_force(context)


@task(APPRAISE, prepare=_load_models)
def appraise(context: Context, instance_id: int) -> None:
    """Appraise one instance and save the outcome; a photograph that cannot be judged has one too.

    What is no photograph of a patient, as a result of ours that comes back, is kept and not appraised.

    Args:
        context: Of the process.
        instance_id: Of an instance in state RECEIVED.

    Raises:
        RecordNotFoundError: No such instance.
        StorageError: Its bytes are gone or corrupt, or the maps cannot be kept.
        ModelError: The method's models are at fault.
    """
    with transaction(context.pool) as connection:
        instance = instances.get(connection, instance_id)
        is_known_result = deliveries.is_result(connection, instance.sop_instance_uid)
        if rejections.withdraw_if_rejected(connection, instance):
            return  # the note and the photograph came at the same moment
    content = context.store.read(instance.sha256)
    derived_too = {instance.calling_ae_title, "*"} & set(context.settings.appraise_derived_from)
    reason = kept_reason(content, is_known_result=is_known_result, derived_too=bool(derived_too))
    if reason is not None:
        with transaction(context.pool) as connection:
            kept(connection, instance_id, {"reason": reason.value})
        return
    made = appraised_by_method(context, content, instance.sop_instance_uid)
    outcome = made.outcome
    difference_map_sha256 = keep_map(context.store, outcome)
    with transaction(context.pool) as connection:
        now = instances.lock(connection, instance_id)
        if now.version != instance.version or now.state is InstanceState.WITHDRAWN:
            return  # corrected meanwhile: its new version is appraised by a message of its own; or taken back
        still_wanted()
        appraisal_id = save_drawn(connection, instance_id, made, difference_map_sha256)
        if instance.version > 1:
            appraisals.supersede_others(connection, instance_id, outcome.appraisal.pixel_sha256)
        appraised(connection, instance_id, _event(outcome), _detail(outcome, appraisal_id))
    APPRAISED_AFTER_SECONDS.observe(max(0.0, time.time() - now.received_at.timestamp()))


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """An appraisal with its picture."""

    outcome: Appraised
    drawn: Mapping[PictureEncoding, bytes]  # files; none of a rejected photograph

    @property
    def picture_sha256(self) -> str:
        """Of the picture as everybody gets it; "" for a rejected photograph."""
        picture = self.drawn.get(PictureEncoding.JPEG)
        return "" if picture is None else hashlib.sha256(picture).hexdigest()


def appraised_by_method(context: Context, content: bytes, sop_instance_uid: str) -> Drawn:
    """Appraise a stored photograph by the method in force, and draw its picture while its pixels are there.

    Raises:
        ModelError: The method's models are at fault.
    """
    settings = context.settings
    with memory_budget(settings.appraisal_memory_bytes).hold(needed_bytes(content, settings)):
        outcome = appraiser_of(settings).appraise_bytes(content, sop_instance_uid=sop_instance_uid)
        return Drawn(outcome=outcome, drawn=_draw(outcome, settings))


def _draw(outcome: Appraised, settings: Settings) -> dict[PictureEncoding, bytes]:
    """Draw and encode the picture, once for all who will show it; none of a rejected photograph."""
    if outcome.maps is None:
        return {}
    side = settings.picture_long_side_px
    shown = outcome.maps.triptych(side) if settings.picture == "triptych" else outcome.maps.heatmap(side)
    drawn = {PictureEncoding.JPEG: encode_jpeg(shown, settings.picture_jpeg_quality)}
    if any(destination.lossless for destination in settings.destinations):
        drawn[PictureEncoding.PNG] = encode_png(shown)
    return drawn


def keep_map(store: InstanceStore, outcome: Appraised) -> str:
    """Keep the difference map; returns its SHA-256, "" for a rejected photograph."""
    return "" if outcome.maps is None else store.put(encode_map(outcome.maps.native)).sha256


def save_drawn(connection: Connection, instance_id: int, made: Drawn, difference_map_sha256: str) -> UUID:
    """Save an appraisal and its pictures, unless the same method judged the same pixels before.

    Then that result stands, and is rated anew where another calibration has come into force since: one
    photograph never has two results of one method.

    Args:
        connection: In a transaction that holds the row of the photograph.
        instance_id: Of the photograph.
        made: The appraisal.
        difference_map_sha256: Of its map; "" for a rejected photograph.

    Returns:
        Id of the result that stands.
    """
    appraisal = made.outcome.appraisal
    known = appraisals.same_score(connection, instance_id, appraisal)
    if known is None or known == appraisal.appraisal_id:
        appraisals.save(
            connection,
            instance_id=instance_id,
            appraisal=appraisal,
            heatmap_sha256=made.picture_sha256,
            difference_map_sha256=difference_map_sha256,
        )
        pictures.hand_over(connection, appraisal.appraisal_id, made.drawn)
    stands = appraisals.get(connection, known or appraisal.appraisal_id).appraisal
    if stands.status is AppraisalStatus.APPRAISED:
        reratings.want(connection, stands.appraisal_id, stands.method)
    return stands.appraisal_id


def _event(outcome: Appraised) -> LedgerEvent:
    rejected = outcome.appraisal.status is AppraisalStatus.REJECTED
    return LedgerEvent.REJECTED if rejected else LedgerEvent.APPRAISED


def _detail(outcome: Appraised, appraisal_id: UUID) -> dict[str, str]:
    appraisal = outcome.appraisal
    detail = {"appraisal": str(appraisal_id), "method": appraisal.method.name}
    if appraisal.reasons:
        detail["reasons"] = ",".join(reason.value for reason in appraisal.reasons)
    return detail
