"""The rows that are sealed, each in one form only: what the digest of its seal is over.

PostgreSQL writes the content, as the text of a JSON array with times in UTC, so that no value keeps a row
from its seal: one that this program could not read is sealed like any other. The statements are here and not
in functions of the database, where whoever changes a row could change what is said of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from service.database.pool import Connection, tuples

WRITTEN_BY_US = 1  # how rows were written until 0.1: JSON of this program's
WRITTEN_BY_POSTGRESQL = 2

# Of each source the columns that tell what was claimed, and where they are, beside the wanted w.id and w.key.
# What a row is doing (states, attempts, leases) changes by right and leaves lines in the ledger.
_CONTENT: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "ledger": (
            "l.ledger_id, l.instance_id, l.sop_instance_uid, l.event, l.at, l.detail",
            "JOIN ledger l ON l.ledger_id = w.id",
        ),
        "audit": (
            "m.audit_id, m.event_id, m.outcome, m.at, m.message",
            "JOIN audit_message m ON m.audit_id = w.id",
        ),
        # What is served is put together of a template, here by its digest, and the resource's own text.
        "resource": (
            "r.type, r.id, v.version_id, v.last_updated, v.author, v.body,"
            " encode(sha256(convert_to(t.text, 'UTF8')), 'hex')",
            "JOIN fhir_resource r ON r.resource_id = w.id CROSS JOIN LATERAL ("
            " SELECT r.version_id, r.last_updated, r.author, r.body, r.template_id"
            " WHERE r.version_id::text = w.key"
            " UNION ALL SELECT h.version_id, h.last_updated, h.author, h.body, h.template_id"
            " FROM fhir_history h WHERE h.type = r.type AND h.id = r.id AND h.version_id::text = w.key"
            ") AS v LEFT JOIN fhir_template t ON t.number = v.template_id",
        ),
        # One a calibration: what a result was rated before stays as it was.
        "appraisal": (
            "a.appraisal_id, a.instance_id, a.pixel_sha256, a.method_name, a.method_version, a.normaliser,"
            " a.comparator, a.weights_sha256, a.config_sha256, a.status, a.reasons, a.score, a.quality,"
            " a.warnings, a.heatmap_sha256, a.difference_map_sha256, a.created_at, c.calibration, c.rating,"
            " c.percentile, c.regions",
            "JOIN appraisal a ON a.instance_id = w.id CROSS JOIN LATERAL ("
            " SELECT a.calibration, a.rating, a.percentile, a.regions"
            " UNION ALL SELECT f.calibration, f.rating, f.percentile, f.regions FROM former_rating f"
            " WHERE f.appraisal_id = a.appraisal_id AND f.calibration <> a.calibration"
            ") AS c WHERE a.appraisal_id || ' ' || c.calibration = w.key",
        ),
        "instance": (
            "i.sop_instance_uid, i.sop_class_uid, v.study_instance_uid, v.series_instance_uid,"
            " v.transfer_syntax_uid, v.patient_id, v.issuer_of_patient_id, v.sha256, v.size_bytes,"
            " i.calling_ae_title, i.called_ae_title, i.peer_address, i.association_id, i.received_at",
            "JOIN instance i ON i.instance_id = w.id CROSS JOIN LATERAL ("
            " SELECT i.study_instance_uid, i.series_instance_uid, i.transfer_syntax_uid, i.patient_id,"
            " i.issuer_of_patient_id, i.sha256, i.size_bytes WHERE i.version::text = w.key"
            " UNION ALL SELECT f.study_instance_uid, f.series_instance_uid, f.transfer_syntax_uid,"
            " f.patient_id, f.issuer_of_patient_id, f.sha256, f.size_bytes FROM instance_version f"
            " WHERE f.instance_id = i.instance_id AND f.version::text = w.key) AS v",
        ),
        "delivery": (
            "d.instance_id, d.appraisal_id, d.destination, d.sop_class_uid, d.sop_instance_uid, d.sha256",
            "JOIN delivery d ON d.delivery_id = w.id",
        ),
    }
)
# Tables that are sealed by all their columns but some: how a row is found, and the columns left out.
_WHOLE: Mapping[str, tuple[str, str, tuple[str, ...]]] = MappingProxyType(
    {
        "access_reason": ("access_reason_id", "''", ()),
        "annotation": ("annotation_id", "''", ()),
        # What is said of the operation follows the newest version of the case, which is sealed.
        "outcome_change": (
            "outcome_change_id",
            "''",
            ("valid", "why_not", "case_version", "patient", "procedure_code", "performed_on", "site",
             "surgeon", "phenotype", "syndrome", "laterality", "age_years"),
        ),
        "outcome_validity": ("outcome_validity_id", "''", ()),
        "outcome_window": ("0", "t.code || ' ' || t.version || ' ' || t.name", ()),
        "pairing_conflict": ("0", "t.conflict_id::text", ()),
        "pairing_decision": ("pairing_decision_id", "''", ()),
        "phase": ("phase_id", "''", ()),
        "photograph_role": ("photograph_role_id", "''", ()),
        "procedure_case": ("0", "t.case_id || ' ' || t.version", ()),
        "risk_model": ("risk_model_id", "''", ()),
        "signal": ("0", "t.signal_id::text", ()),
        "signal_acknowledgement": ("signal_acknowledgement_id", "''", ()),
    }
)  # fmt: skip
_MOMENT = "to_char({}, 'YYYY-MM-DD\"T\"HH24:MI:SS.US') || '+00:00'"
_FORMER_CONTENT: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "ledger": (
            "l.ledger_id, l.instance_id, l.sop_instance_uid, l.event,"
            f" {_MOMENT.format('l.at')}, l.detail::text",
            "JOIN ledger l ON l.ledger_id = w.id",
        ),
        "audit": (
            f"m.audit_id, m.event_id, m.outcome, {_MOMENT.format('m.at')}, m.message",
            "JOIN audit_message m ON m.audit_id = w.id",
        ),
        "fhir": (
            "r.resource_id, r.body",
            "JOIN fhir_resource r ON r.resource_id = w.id AND r.type = 'AuditEvent'",
        ),
    }
)
_WHOLLY = " UNION ALL ".join(
    f"SELECT '{table}', {number}, {key.replace('t.', '')} FROM {table}"  # noqa: S608 - names of this module
    for table, (number, key, _) in _WHOLE.items()
)
_IN_PARTS = (
    "SELECT 'ledger' AS source, ledger_id AS row_id, '' AS row_key FROM ledger"
    " UNION ALL SELECT 'audit', audit_id, '' FROM audit_message"
    " UNION ALL SELECT 'resource', resource_id, version_id::text FROM fhir_resource"
    " UNION ALL SELECT 'resource', r.resource_id, h.version_id::text"
    " FROM fhir_history h JOIN fhir_resource r USING (type, id)"
    " UNION ALL SELECT 'appraisal', instance_id, appraisal_id || ' ' || calibration FROM appraisal"
    " UNION ALL SELECT 'appraisal', a.instance_id, f.appraisal_id || ' ' || f.calibration"
    " FROM former_rating f JOIN appraisal a USING (appraisal_id)"
    " UNION ALL SELECT 'instance', instance_id, version::text FROM instance"
    " UNION ALL SELECT 'instance', instance_id, version::text FROM instance_version"
    " UNION ALL SELECT 'delivery', delivery_id, '' FROM delivery"
)
# Everything that must have a seal, as (source, row_id, row_key).
EVERY_ROW = f"{_IN_PARTS} UNION ALL {_WHOLLY}"


@dataclass(frozen=True, kw_only=True, order=True)
class RowRef:
    """Which state of which row."""

    source: str
    row_id: int
    row_key: str = ""


def contents(
    connection: Connection, rows: Iterable[RowRef], form: int = WRITTEN_BY_POSTGRESQL
) -> dict[RowRef, bytes]:
    """What the digests of some rows are over, as the rows are now; of rows that are gone nothing.

    Args:
        connection: In a transaction, which reckons times in UTC from here on.
        rows: Any number.
        form: How they are written.
    """
    connection.execute("SET LOCAL TimeZone = 'UTC'")
    connection.execute("SET LOCAL extra_float_digits = 1")
    is_ours = form == WRITTEN_BY_US
    sources = _FORMER_CONTENT if is_ours else _CONTENT
    by_source: dict[str, list[RowRef]] = {}
    for row in rows:
        by_source.setdefault(row.source, []).append(row)
    found: dict[RowRef, bytes] = {}
    for source, wanted in by_source.items():
        if source in sources:
            columns, joined = sources[source]
            columns = columns if is_ours else f"jsonb_build_array({columns})::text"
        elif source in _WHOLE:
            columns, joined = _whole(source)
        else:  # no program of ours wrote that
            continue
        statement = (
            f"SELECT w.id, w.key, {columns}"  # noqa: S608 - constants of this module
            f" FROM unnest(%(ids)s::bigint[], %(keys)s::text[]) AS w(id, key) {joined}"
        )
        given = {"ids": [row.row_id for row in wanted], "keys": [row.row_key for row in wanted]}
        for row_id, key, *values in tuples(connection).execute(statement.encode(), given):
            ref = RowRef(source=source, row_id=row_id, row_key=key)
            found[ref] = _formerly(source, values) if is_ours else _written(ref, values)
    return found


def disagreeing(connection: Connection) -> list[RowRef]:
    """Changes that say something else of their operation than its case, which is sealed."""
    rows = connection.execute(
        "SELECT c.outcome_change_id FROM outcome_change c"
        " LEFT JOIN procedure_case p ON p.case_id = c.case_id AND p.version = c.case_version"
        " WHERE p.case_id IS NULL OR"
        " (c.procedure_code, c.performed_on, c.site, c.surgeon, c.phenotype, c.syndrome, c.laterality)"
        " IS DISTINCT FROM"
        " (p.code, p.performed_on, p.site, p.surgeon, p.phenotype, p.syndrome, p.laterality)"
        " ORDER BY c.outcome_change_id"
    )
    return [RowRef(source="outcome_change", row_id=row["outcome_change_id"]) for row in rows]


def _whole(table: str) -> tuple[str, str]:
    """The content of a whole row, and where it is."""
    number, key, left_out = _WHOLE[table]
    names = ", ".join(f"'{name}'" for name in left_out)
    found = f"{key} = w.key" if number == "0" else f"t.{number} = w.id"
    return f"(to_jsonb(t) - ARRAY[{names}]::text[])::text", f"JOIN {table} t ON {found}"


def _written(ref: RowRef, values: list[Any]) -> bytes:
    """A row's content with its place, so that no two rows of like content can change places."""
    return f"{ref.source} {ref.row_id} {ref.row_key}\n{values[0]}".encode()


def _formerly(source: str, values: list[Any]) -> bytes:
    """As rows were written before; JSON without spaces, keys sorted."""
    if source == "ledger":
        try:
            values[-1] = json.loads(values[-1])
        except (ValueError, RecursionError):  # no such detail was ever sealed
            return b""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
