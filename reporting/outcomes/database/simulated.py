"""Simulated photographs and results as rows, in a database that holds nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from service.database.pool import Connection

_INSTANCE = """
INSERT INTO instance (sop_instance_uid, sop_class_uid, study_instance_uid, series_instance_uid,
    transfer_syntax_uid, patient_id, issuer_of_patient_id, calling_ae_title, called_ae_title, peer_address,
    sha256, size_bytes, state, received_at)
VALUES (%(uid)s, '1.2.840.10008.5.1.4.1.1.77.1.4', %(study)s, %(study)s, '1.2.840.10008.1.2.4.50',
    %(patient)s, %(issuer)s, 'SIMULATED', 'SIMULATED', '127.0.0.1', %(sha256)s, 0, 'delivered', %(received)s)
ON CONFLICT DO NOTHING
"""
_FACTS = """
INSERT INTO outcome_photograph
    (instance_id, patient, acquired_on, acquired_at, born_on, site, hint, hint_source)
SELECT instance_id, %(logical)s, %(taken)s, %(taken_at)s, %(born)s, %(site)s, NULL, ''
FROM instance WHERE sop_instance_uid = %(uid)s ON CONFLICT DO NOTHING
"""
_APPRAISAL = """
INSERT INTO appraisal (appraisal_id, instance_id, pixel_sha256, method_name, method_version, normaliser,
    comparator, weights_sha256, config_sha256, calibration, status, reasons, score, rating, percentile,
    regions, quality, warnings, heatmap_sha256, difference_map_sha256, created_at)
SELECT %(appraisal)s, instance_id, %(sha256)s, %(name)s, %(version)s, %(normaliser)s, %(comparator)s,
    %(weights_sha256)s, %(config_sha256)s, %(calibration)s, %(status)s, %(reasons)s, %(score)s, NULL, NULL,
    %(regions)s::jsonb, %(quality)s::jsonb, '{}', '', '', %(made)s
FROM instance WHERE sop_instance_uid = %(uid)s ON CONFLICT DO NOTHING
"""


def has_real(connection: Connection, issuer: str, author: str) -> bool:
    """Whether the database holds a photograph or an operation that is not simulated.

    Args:
        connection: In a transaction.
        issuer: Of every simulated patient ID.
        author: Of every simulated operation.
    """
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM instance WHERE issuer_of_patient_id <> %s) OR EXISTS (SELECT"
        " FROM procedure_case WHERE author <> %s)"
        " OR EXISTS (SELECT FROM fhir_resource WHERE type = 'Procedure') AS real",
        (issuer, author),
    ).fetchone()
    return row is None or bool(row["real"])


def write(
    connection: Connection, photographs: Sequence[Mapping[str, Any]], results: Sequence[Mapping[str, Any]]
) -> int:
    """Write photographs and their results; what is there stays.

    Args:
        connection: In a transaction.
        photographs: A row for each.
        results: A row for each appraisal.

    Returns:
        Photographs written.
    """
    with connection.cursor() as cursor:
        cursor.executemany(_INSTANCE, photographs)
        written = cursor.rowcount
        cursor.executemany(_FACTS, photographs)
        cursor.executemany(_APPRAISAL, results)
    # there are no bytes to index
    connection.execute(
        "DELETE FROM held_pending WHERE sop_instance_uid = ANY(%s)", ([each["uid"] for each in photographs],)
    )
    return written
