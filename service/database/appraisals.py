"""Appraisals and where their maps are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from service.database.pool import Connection
from service.errors import RecordNotFoundError
from service.records import (
    Appraisal,
    AppraisalStatus,
    ExclusionReason,
    FormerRating,
    MethodIdentity,
    QualityMeasures,
    Region,
    RegionScore,
    RejectionReason,
    SavedAppraisal,
)

_SELECT = (
    "SELECT appraisal_id, appraisal.instance_id, sop_instance_uid, pixel_sha256, method_name, method_version,"
    " normaliser, comparator, weights_sha256, config_sha256, calibration, status, reasons, score, rating,"
    " percentile, regions, quality, warnings, heatmap_sha256, difference_map_sha256, created_at"
    " FROM appraisal JOIN instance USING (instance_id)"
)


def _method(row: DictRow) -> MethodIdentity:
    return MethodIdentity(
        name=row["method_name"],
        version=row["method_version"],
        normaliser=row["normaliser"],
        comparator=row["comparator"],
        weights_sha256=row["weights_sha256"],
        config_sha256=row["config_sha256"],
        calibration=row["calibration"],
    )


def _region(stored: dict[str, Any]) -> RegionScore:
    reason = stored.get("reason")  # rows of before there were reasons lack it
    return RegionScore(
        **{
            **stored,
            "region": Region(stored["region"]),
            "reason": None if reason is None else ExclusionReason(reason),
        }
    )


def _saved(row: DictRow) -> SavedAppraisal:
    appraisal = Appraisal(
        appraisal_id=row["appraisal_id"],
        sop_instance_uid=row["sop_instance_uid"],
        pixel_sha256=row["pixel_sha256"],
        method=_method(row),
        status=AppraisalStatus(row["status"]),
        reasons=tuple(RejectionReason(reason) for reason in row["reasons"]),
        score=row["score"],
        rating=row["rating"],
        percentile=row["percentile"],
        regions=tuple(_region(each) for each in row["regions"]),
        quality=QualityMeasures(**row["quality"]),
        warnings=tuple(row["warnings"]),
    )
    return SavedAppraisal(
        instance_id=row["instance_id"],
        appraisal=appraisal,
        heatmap_sha256=row["heatmap_sha256"],
        difference_map_sha256=row["difference_map_sha256"],
        created_at=row["created_at"],
    )


def save(
    connection: Connection,
    *,
    instance_id: int,
    appraisal: Appraisal,
    heatmap_sha256: str,
    difference_map_sha256: str,
) -> bool:
    """Save an appraisal; the same one twice is one row.

    Returns:
        Whether the row is new.
    """
    method = appraisal.method
    return bool(
        connection.execute(
            "INSERT INTO appraisal (appraisal_id, instance_id, pixel_sha256, method_name, method_version,"
            " normaliser, comparator, weights_sha256, config_sha256, calibration, status, reasons, score,"
            " rating, percentile, regions, quality, warnings, heatmap_sha256, difference_map_sha256)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
            " ON CONFLICT (appraisal_id) DO NOTHING",
            (
                appraisal.appraisal_id,
                instance_id,
                appraisal.pixel_sha256,
                method.name,
                method.version,
                method.normaliser,
                method.comparator,
                method.weights_sha256,
                method.config_sha256,
                method.calibration,
                appraisal.status.value,
                [reason.value for reason in appraisal.reasons],
                appraisal.score,
                appraisal.rating,
                appraisal.percentile,
                Jsonb([asdict(region) for region in appraisal.regions]),
                Jsonb(asdict(appraisal.quality)),
                list(appraisal.warnings),
                heatmap_sha256,
                difference_map_sha256,
            ),
        ).rowcount
    )


def same_score(connection: Connection, instance_id: int, appraisal: Appraisal) -> UUID | None:
    """The appraisal of the same pixels by the same method, weights and settings that is there already.

    Only its calibration may be another: then it is rated anew, and no second result of one photograph.

    Args:
        connection: In a transaction that holds the row of the photograph.
        instance_id: Of the photograph.
        appraisal: That may have to be saved.
    """
    method = appraisal.method
    row = connection.execute(
        "SELECT appraisal_id FROM appraisal WHERE instance_id = %s AND pixel_sha256 = %s AND (method_name,"
        " method_version, normaliser, comparator, weights_sha256, config_sha256) = (%s, %s, %s, %s, %s, %s)"
        " ORDER BY created_at, appraisal_id LIMIT 1",
        (
            instance_id,
            appraisal.pixel_sha256,
            method.name,
            method.version,
            method.normaliser,
            method.comparator,
            method.weights_sha256,
            method.config_sha256,
        ),
    ).fetchone()
    found: UUID | None = row["appraisal_id"] if row else None
    return found


def former_ratings(
    connection: Connection, appraisal_ids: Sequence[UUID]
) -> dict[UUID, tuple[FormerRating, ...]]:
    """What appraisals were rated before, by each calibration, the first they had first; by appraisal."""
    rows = connection.execute(
        "SELECT appraisal_id, calibration, rating, percentile, regions FROM former_rating"
        " WHERE appraisal_id = ANY(%s) ORDER BY former_rating_id",
        (list(appraisal_ids),),
    )
    found: dict[UUID, tuple[FormerRating, ...]] = {}
    for row in rows:
        rated = FormerRating(
            calibration=row["calibration"],
            rating=row["rating"],
            percentile=row["percentile"],
            regions=tuple(_region(each) for each in row["regions"]),
        )
        found[row["appraisal_id"]] = (*found.get(row["appraisal_id"], ()), rated)
    return found


def calibrations(connection: Connection, instance_id: int) -> dict[UUID, str]:
    """By which calibration each appraisal of an instance is rated now."""
    rows = connection.execute(
        "SELECT appraisal_id, calibration FROM appraisal WHERE instance_id = %s", (instance_id,)
    )
    return {row["appraisal_id"]: row["calibration"] for row in rows}


def get(connection: Connection, appraisal_id: UUID) -> SavedAppraisal:
    """Read one appraisal.

    Raises:
        RecordNotFoundError: No such row.
    """
    row = connection.execute(_SELECT + " WHERE appraisal_id = %s", (appraisal_id,)).fetchone()
    if row is None:
        raise RecordNotFoundError(f"appraisal {appraisal_id}")
    return _saved(row)


def for_instance(connection: Connection, instance_id: int) -> list[SavedAppraisal]:
    """Every appraisal of an instance's present pixels, newest first."""
    rows = connection.execute(
        _SELECT + " WHERE instance_id = %s AND NOT is_superseded ORDER BY created_at DESC, appraisal_id",
        (instance_id,),
    )
    return [_saved(row) for row in rows]


def supersede_others(connection: Connection, instance_id: int, pixel_sha256: str) -> None:
    """Mark the appraisals of an instance that are of other pixels than it has now."""
    connection.execute(
        "UPDATE appraisal SET is_superseded = (pixel_sha256 <> %s) WHERE instance_id = %s",
        (pixel_sha256, instance_id),
    )


def superseded(connection: Connection, instance_id: int) -> list[SavedAppraisal]:
    """The appraisals of pixels that an instance no longer has, oldest first."""
    rows = connection.execute(
        _SELECT + " WHERE instance_id = %s AND is_superseded ORDER BY created_at, appraisal_id",
        (instance_id,),
    )
    return [_saved(row) for row in rows]


def for_instances(
    connection: Connection, instance_ids: Sequence[int], *, superseded_too: bool = False
) -> dict[int, list[SavedAppraisal]]:
    """Every appraisal of some instances, newest first, by instance.

    Args:
        connection: In a transaction.
        instance_ids: Of the instances.
        superseded_too: Whether those of pixels that an instance no longer has are among them.
    """
    rows = connection.execute(
        _SELECT + " WHERE instance_id = ANY(%s) AND (%s OR NOT is_superseded)"
        " ORDER BY created_at DESC, appraisal_id",
        (list(instance_ids), superseded_too),
    )
    found: dict[int, list[SavedAppraisal]] = {}
    for row in rows:
        found.setdefault(row["instance_id"], []).append(_saved(row))
    return found
