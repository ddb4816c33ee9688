"""Photographs for charts: judged or rejected, and how long a result took."""

from __future__ import annotations

from collections import Counter
from datetime import date

import numpy as np
from psycopg.rows import tuple_row

from reporting.identifiers import observation_id_of
from reporting.outcomes.charts.records import PhotographCounts, PhotographTable
from reporting.outcomes.database import cases, photographs
from reporting.outcomes.patients import persons_of
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
    """Of how many photographs of a time and place there is what result; arguments as of ``table``.

    A photograph counts as withdrawn when the result that is charted, its first, was; and as one without
    consent when any operation of its patient is.
    """
    rows = (
        connection.cursor(row_factory=tuple_row)
        .execute(
            "SELECT a.appraisal_id, coalesce(a.reasons[1], ''), o.patient FROM outcome_photograph o"
            " LEFT JOIN LATERAL (SELECT appraisal_id, reasons FROM appraisal"
            " WHERE appraisal.instance_id = o.instance_id ORDER BY created_at, appraisal_id LIMIT 1) AS a"
            " ON true WHERE o.acquired_on BETWEEN %s AND %s AND (%s::text = '' OR o.site = %s)",
            (since, until, site, site),
        )
        .fetchall()
    )
    withdrawn = photographs.withdrawn(connection)
    unwilling = {
        patient
        for person in persons_of(connection, cases.patients_without_consent(connection))
        for patient in person.everyone
    }
    reasons = Counter(reason for appraisal, reason, _ in rows if appraisal is not None)
    return PhotographCounts(
        known=len(rows),
        judged=reasons.pop("", 0),
        rejected=dict(sorted(reasons.items())),
        without_result=sum(appraisal is None for appraisal, _, _ in rows),
        withdrawn=sum(
            appraisal is not None and observation_id_of(str(appraisal)) in withdrawn
            for appraisal, _, _ in rows
        ),
        no_consent=sum(patient in unwilling for _, _, patient in rows),
    )
