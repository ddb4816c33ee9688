"""Photographs for charts: judged or rejected, and how long a result took."""

from __future__ import annotations

from datetime import date

import numpy as np
from psycopg.rows import tuple_row

from reporting.outcomes.charts.records import PhotographCounts, PhotographTable
from service.database.pool import Connection


def table(connection: Connection, since: date, until: date, site: str = "") -> PhotographTable:
    """Photographs of a time, with the first result of each.

    Args:
        connection: In a transaction.
        since: First day they were taken on.
        until: Last day.
        site: "" for every one.
    """
    rows = (
        connection.cursor(row_factory=tuple_row)
        .execute(
            "SELECT i.sop_instance_uid, o.acquired_on, o.site, coalesce(a.reasons[1], ''),"
            " extract(epoch FROM a.created_at - i.received_at) FROM outcome_photograph o"
            " JOIN instance i USING (instance_id) JOIN LATERAL (SELECT reasons, created_at FROM appraisal"
            " WHERE appraisal.instance_id = o.instance_id ORDER BY created_at, appraisal_id LIMIT 1) AS a"
            " ON true WHERE o.acquired_on BETWEEN %s AND %s AND (%s::text = '' OR o.site = %s)"
            " ORDER BY o.acquired_on, o.instance_id",
            (since, until, site, site),
        )
        .fetchall()
    )
    columns = list(zip(*rows, strict=True)) if rows else [()] * 5
    uids, days, sites, reasons, waited = columns
    return PhotographTable(
        sop_instance_uid=np.array(uids, object),
        acquired_on=np.array(days, "datetime64[D]"),
        site=np.array(sites, object),
        reason=np.array(reasons, object),
        waited_s=np.array([float(each) for each in waited], np.float64),
    )


def counts(connection: Connection, since: date, until: date, site: str = "") -> PhotographCounts:
    """Of how many photographs of a time and place there is what result; arguments as of ``table``."""
    rows = connection.execute(
        "SELECT a.appraisal_id IS NULL AS waits, coalesce(a.reasons[1], '') AS reason, count(*) AS number"
        " FROM outcome_photograph o"
        " LEFT JOIN LATERAL (SELECT appraisal_id, reasons FROM appraisal"
        " WHERE appraisal.instance_id = o.instance_id ORDER BY created_at, appraisal_id LIMIT 1) AS a ON true"
        " WHERE o.acquired_on BETWEEN %s AND %s AND (%s::text = '' OR o.site = %s)"
        " GROUP BY 1, 2 ORDER BY 1, 2",
        (since, until, site, site),
    ).fetchall()
    return PhotographCounts(
        known=sum(row["number"] for row in rows),
        judged=sum(row["number"] for row in rows if not row["waits"] and not row["reason"]),
        rejected={row["reason"]: row["number"] for row in rows if row["reason"]},
        without_result=sum(row["number"] for row in rows if row["waits"]),
    )
