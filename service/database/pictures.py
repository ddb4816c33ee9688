"""Pictures that wait to be put into result objects."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from service.database.pool import Connection
from service.records import PictureEncoding


def hand_over(connection: Connection, appraisal_id: UUID, pictures: Mapping[PictureEncoding, bytes]) -> None:
    """Keep an appraisal's pictures until its results are made; known ones stay as they are.

    Args:
        connection: In the transaction that saves the appraisal.
        appraisal_id: Saved in it or before.
        pictures: Files by how they are encoded.
    """
    for encoding, picture in pictures.items():
        connection.execute(
            "INSERT INTO pending_picture (appraisal_id, encoding, picture) VALUES (%s, %s, %s)"
            " ON CONFLICT DO NOTHING",
            (appraisal_id, encoding.value, picture),
        )


def pending(connection: Connection, appraisal_id: UUID) -> Mapping[PictureEncoding, bytes]:
    """An appraisal's pictures that wait; none once its results are made."""
    rows = connection.execute(
        "SELECT encoding, picture FROM pending_picture WHERE appraisal_id = %s", (appraisal_id,)
    )
    return {PictureEncoding(row["encoding"]): bytes(row["picture"]) for row in rows}


def settle(connection: Connection, appraisal_id: UUID) -> None:
    """Let go of an appraisal's pictures: its results hold them from this transaction on."""
    connection.execute("DELETE FROM pending_picture WHERE appraisal_id = %s", (appraisal_id,))
