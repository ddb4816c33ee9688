"""The appraisal step: a photograph's bytes in, an appraisal and its maps kept."""

from __future__ import annotations

import io
import threading
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.appraisal.appraiser import Appraised, Appraiser
from service.appraisal.heatmap import encode_png
from service.appraisal.models import ModelStore
from service.codecs.pool import shared_pool
from service.database import appraisals, deliveries, instances
from service.database.pool import transaction
from service.pipeline.celery_app import task
from service.pipeline.context import Context
from service.pipeline.origin import kept_reason
from service.pipeline.progress import appraised, kept
from service.records import AppraisalStatus, LedgerEvent
from service.steps import APPRAISE
from service.storage.local import InstanceStore

# Face finder and models are loaded once in a process and work on one photograph at a time.
_ONE_AT_A_TIME = threading.Lock()


@lru_cache(maxsize=2)
def _appraiser(method: str, model_dir: Path | None, device: str) -> Appraiser:
    return Appraiser(method, store=ModelStore(model_dir), device=device)


def _load_models(context: Context) -> None:
    """Build the method, and start a decoder, before the first photograph comes."""
    settings = context.settings
    shared_pool().warm()
    _appraiser(settings.method, settings.model_dir, settings.device).load()


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
    content = context.store.read(instance.sha256)
    derived_too = {instance.calling_ae_title, "*"} & set(context.settings.appraise_derived_from)
    reason = kept_reason(content, is_known_result=is_known_result, derived_too=bool(derived_too))
    if reason is not None:
        with transaction(context.pool) as connection:
            kept(connection, instance_id, {"reason": reason.value})
        return
    outcome = appraised_by_method(context, content, instance.sop_instance_uid)
    heatmap_sha256, difference_map_sha256 = keep_maps(context.store, outcome)
    with transaction(context.pool) as connection:
        if instances.lock(connection, instance_id).version != instance.version:
            return  # corrected meanwhile: its new version is appraised by a message of its own
        appraisals.save(
            connection,
            instance_id=instance_id,
            appraisal=outcome.appraisal,
            heatmap_sha256=heatmap_sha256,
            difference_map_sha256=difference_map_sha256,
        )
        if instance.version > 1:
            appraisals.supersede_others(connection, instance_id, outcome.appraisal.pixel_sha256)
        appraised(connection, instance_id, _event(outcome), _detail(outcome))


def appraised_by_method(context: Context, content: bytes, sop_instance_uid: str) -> Appraised:
    """Appraise a stored photograph by the method in force.

    Raises:
        ModelError: The method's models are at fault.
    """
    settings = context.settings
    with _ONE_AT_A_TIME:
        appraiser = _appraiser(settings.method, settings.model_dir, settings.device)
        return appraiser.appraise_bytes(content, sop_instance_uid=sop_instance_uid)


def keep_maps(store: InstanceStore, outcome: Appraised) -> tuple[str, str]:
    """Keep heatmap and difference map; returns their SHA-256, "" for a rejected photograph."""
    if outcome.maps is None:
        return "", ""
    heatmap = store.put(encode_png(outcome.maps.heatmap))
    difference_map = store.put(encode_npy(outcome.maps.difference))
    return heatmap.sha256, difference_map.sha256


def encode_npy(difference: NDArray[np.float32]) -> bytes:
    """Encode a (H, W) float32 map as a .npy file; equal maps give equal bytes."""
    buffer = io.BytesIO()
    np.save(buffer, difference, allow_pickle=False)
    return buffer.getvalue()


def _event(outcome: Appraised) -> LedgerEvent:
    rejected = outcome.appraisal.status is AppraisalStatus.REJECTED
    return LedgerEvent.REJECTED if rejected else LedgerEvent.APPRAISED


def _detail(outcome: Appraised) -> dict[str, str]:
    appraisal = outcome.appraisal
    detail = {"appraisal": str(appraisal.appraisal_id), "method": appraisal.method.name}
    if appraisal.reasons:
        detail["reasons"] = ",".join(reason.value for reason in appraisal.reasons)
    return detail
