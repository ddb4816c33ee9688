"""Photographs that have been judged, with their maps in the store."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from service.database import appraisals, instances
from service.database.pool import transaction
from service.peers import Destination
from service.pipeline.context import Context
from service.records import InstanceState, NewInstance, SavedAppraisal
from service.storage.local import InstanceStore
from tests.unit.reporting.photographs import (
    COLUMNS,
    ROWS,
    SERIES_UID,
    SOP_UID,
    STUDY_UID,
    appraised,
    photograph,
    pixels,
)

DESTINATIONS = (
    Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=11113),
    Destination(name="vna", ae_title="VNA", host="127.0.0.1", port=11114),
)


def keep_png(store: InstanceStore) -> str:
    stream = BytesIO()
    Image.fromarray(pixels(60, 50)).save(stream, "PNG")
    return store.put(stream.getvalue()).sha256


def keep_npy(store: InstanceStore) -> str:
    stream = BytesIO()
    np.save(stream, np.zeros((ROWS, COLUMNS), np.float32))
    return store.put(stream.getvalue()).sha256


def judge(context: Context, saved: SavedAppraisal | None = None, data: bytes | None = None) -> int:
    """Receive a photograph and save an appraisal of it; returns the instance in state APPRAISED."""
    stored = context.store.put(data if data is not None else photograph())
    given = saved if saved is not None else appraised(heatmap_sha256=keep_png(context.store))
    with transaction(context.pool) as connection:
        _, instance_id = instances.receive(
            connection,
            NewInstance(
                sop_instance_uid=SOP_UID,
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
    save(context, instance_id, given)
    again(context, instance_id)
    return instance_id


def save(context: Context, instance_id: int, saved: SavedAppraisal) -> None:
    with transaction(context.pool) as connection:
        appraisals.save(
            connection,
            instance_id=instance_id,
            appraisal=saved.appraisal,
            heatmap_sha256=saved.heatmap_sha256,
            difference_map_sha256=saved.difference_map_sha256,
        )


def again(context: Context, instance_id: int) -> None:
    with transaction(context.pool) as connection:
        instances.set_state(connection, instance_id, InstanceState.APPRAISED)
