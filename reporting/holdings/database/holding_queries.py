"""Searches what is held: conditions on attributes become SQL here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from psycopg import sql
from psycopg.rows import DictRow

from reporting.holdings.database.holding_records import (
    Condition,
    HeldInstance,
    HoldingQuery,
    Level,
    Match,
    MatchKind,
)
from service.database.pool import Connection

_ALIASES = {Level.STUDY: sql.SQL("st"), Level.SERIES: sql.SQL("se"), Level.IMAGE: sql.SQL("im")}
_LEVELS = (Level.STUDY, Level.SERIES, Level.IMAGE)
_UID_COLUMNS = {
    "0020000D": (Level.STUDY, sql.SQL("study_instance_uid")),
    "0020000E": (Level.SERIES, sql.SQL("series_instance_uid")),
    "00080018": (Level.IMAGE, sql.SQL("sop_instance_uid")),
    "00080016": (Level.IMAGE, sql.SQL("sop_class_uid")),
}
_MODALITIES_IN_STUDY, _SOP_CLASSES_IN_STUDY = "00080061", "00080062"
_MODALITY = "00080060"
_DIGITS = {MatchKind.TIME: 12, MatchKind.DATE_TIME: 20}
_STUDY_DATE = sql.SQL("((st.attributes #>> '{00080020,Value,0}') COLLATE \"C\")")

_STUDY_COUNTS = """
(SELECT array_agg(DISTINCT s.attributes #>> '{{00080060,Value,0}}') FROM held_series s
 WHERE s.study_instance_uid = st.study_instance_uid AND s.patient = st.patient
   AND s.attributes #>> '{{00080060,Value,0}}' IS NOT NULL) AS modalities_in_study,
(SELECT count(*) FROM held_series s WHERE s.study_instance_uid = st.study_instance_uid
 AND s.patient = st.patient) AS study_related_series,
(SELECT array_agg(DISTINCT i.sop_class_uid) FROM held_instance i
 WHERE i.study_instance_uid = st.study_instance_uid AND i.patient = st.patient) AS sop_classes_in_study,
(SELECT count(*) FROM held_instance i WHERE i.study_instance_uid = st.study_instance_uid
 AND i.patient = st.patient) AS study_related_instances
"""
_SYNTAXES = {
    Level.STUDY: "(SELECT array_agg(DISTINCT i.transfer_syntax_uid) FROM held_instance i"
    " WHERE i.study_instance_uid = st.study_instance_uid AND i.patient = st.patient)",
    Level.SERIES: "(SELECT array_agg(DISTINCT i.transfer_syntax_uid) FROM held_instance i"
    " WHERE i.study_instance_uid = se.study_instance_uid AND i.series_instance_uid = se.series_instance_uid"
    " AND i.patient = se.patient)",
    Level.IMAGE: "ARRAY[im.transfer_syntax_uid]",
}
_SERIES_COUNT = """
(SELECT count(*) FROM held_instance i WHERE i.study_instance_uid = se.study_instance_uid
 AND i.series_instance_uid = se.series_instance_uid AND i.patient = se.patient)
 AS series_related_instances
"""
_FROM = {
    Level.STUDY: "held_study st",
    Level.SERIES: "held_series se JOIN held_study st ON st.study_instance_uid = se.study_instance_uid"
    " AND st.patient = se.patient",
    Level.IMAGE: "held_instance im JOIN held_series se ON se.study_instance_uid = im.study_instance_uid"
    " AND se.series_instance_uid = im.series_instance_uid AND se.patient = im.patient"
    " JOIN held_study st ON st.study_instance_uid = im.study_instance_uid AND st.patient = im.patient",
}
_ORDER = {
    Level.STUDY: "st.study_instance_uid, st.patient",
    Level.SERIES: "st.study_instance_uid, se.series_instance_uid, st.patient",
    Level.IMAGE: "st.study_instance_uid, se.series_instance_uid, im.instance_id, im.sop_instance_uid",
}


def search(connection: Connection, query: HoldingQuery) -> list[Match]:
    """Answer a query; the newest studies come first.

    Args:
        connection: In a transaction.
        query: Its tags are eight hexadecimal digits.
    """
    statement = sql.SQL(
        "SELECT {columns} FROM {source} WHERE {where}"
        " ORDER BY {date} DESC NULLS LAST, {order} LIMIT {limit} OFFSET {offset}"
    ).format(
        columns=_columns(query.level),
        source=sql.SQL(_FROM[query.level]),
        where=_where(query),
        date=_STUDY_DATE,
        order=sql.SQL(_ORDER[query.level]),
        limit=sql.Literal(query.limit),
        offset=sql.Literal(query.offset),
    )
    return [_match(row) for row in connection.execute(statement)]


def instances_of(connection: Connection, query: HoldingQuery) -> list[HeldInstance]:
    """Everything below the entities a query finds, photographs first."""
    statement = sql.SQL(
        "SELECT {columns} FROM {source} WHERE {where}"
        " ORDER BY im.is_result, im.instance_id, im.sop_instance_uid"
    ).format(
        columns=sql.SQL(", ").join([sql.Identifier("im", field.name) for field in fields(HeldInstance)]),
        source=sql.SQL(_FROM[Level.IMAGE]),
        where=_where(query),
    )
    return [HeldInstance(**row) for row in connection.execute(statement)]


def _columns(level: Level) -> sql.Composable:
    chosen = [
        f"{alias}.{column} AS {name}" if known else f"{absent} AS {name}"
        for alias, column, name, known, absent in (
            ("st", "study_instance_uid", "study_instance_uid", True, ""),
            ("se", "series_instance_uid", "series_instance_uid", level is not Level.STUDY, "''"),
            ("im", "sop_instance_uid", "sop_instance_uid", level is Level.IMAGE, "''"),
            ("st", "patient", "patient", True, ""),
            ("st", "attributes", "study", True, ""),
            ("se", "attributes", "series", level is not Level.STUDY, "'{{}}'::jsonb"),
            ("im", "attributes", "image", level is Level.IMAGE, "'{{}}'::jsonb"),
            ("im", "remarks", "remarks", level is Level.IMAGE, "'{{}}'::text[]"),
        )
    ]
    chosen.append(_STUDY_COUNTS)
    chosen.append("0 AS series_related_instances" if level is Level.STUDY else _SERIES_COUNT)
    chosen.append(f"{_SYNTAXES[level]} AS transfer_syntaxes")
    return sql.SQL(", ".join(chosen)).format()


def _where(query: HoldingQuery) -> sql.Composable:
    conditions = [_condition(each, query.level) for each in query.conditions]
    if query.patients is not None:
        conditions.append(sql.SQL("st.patient = ANY({})").format(_array(query.patients)))
    return sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("true")


def _condition(condition: Condition, level: Level) -> sql.Composable:
    if condition.tag == _MODALITIES_IN_STUDY:
        return _modalities_in_study(condition)
    if condition.tag == _SOP_CLASSES_IN_STUDY:
        return sql.SQL(
            "EXISTS (SELECT FROM held_instance i WHERE i.study_instance_uid = st.study_instance_uid"
            " AND i.patient = st.patient AND i.sop_class_uid = ANY({values}))"
        ).format(values=_array(condition.values))
    if condition.tag in _UID_COLUMNS:
        of_level, column = _UID_COLUMNS[condition.tag]
        return sql.SQL("{alias}.{column} = ANY({values})").format(
            alias=_ALIASES[of_level], column=column, values=_array(condition.values)
        )
    alias = _ALIASES[condition.level]
    if condition.kind is MatchKind.NAME:
        return sql.SQL(
            "EXISTS (SELECT FROM jsonb_array_elements_text({alias}.names -> {tag}) AS v (text)"
            " WHERE v.text LIKE ANY({values}))"
        ).format(alias=alias, tag=sql.Literal(condition.tag), values=_array(condition.values))
    if condition.kind in (MatchKind.DATE, MatchKind.TIME, MatchKind.DATE_TIME):
        return _range(condition, alias)
    return _value(condition, alias)


def _value(condition: Condition, alias: sql.SQL) -> sql.Composable:
    """Any of the attribute's values; the first alone is indexed, so it is looked at by itself."""
    operator = sql.SQL("= ANY" if condition.kind is MatchKind.VALUE else "LIKE ANY")
    first = sql.Literal(f"{{{condition.tag},Value,0}}")
    values = sql.Literal(f"{{{condition.tag},Value}}")
    return sql.SQL(
        "(({alias}.attributes #>> {first}) {operator}({wanted}) OR"
        " (jsonb_array_length({alias}.attributes #> {values}) > 1 AND EXISTS"
        " (SELECT FROM jsonb_array_elements_text({alias}.attributes #> {values}) AS v (text)"
        " WHERE v.text {operator}({wanted}))))"
    ).format(alias=alias, first=first, values=values, operator=operator, wanted=_array(condition.values))


def _range(condition: Condition, alias: sql.SQL) -> sql.Composable:
    value: sql.Composable = sql.SQL("({alias}.attributes #>> {path})").format(
        alias=alias, path=sql.Literal(f"{{{condition.tag},Value,0}}")
    )
    if condition.kind in _DIGITS:
        value = sql.SQL("rpad(translate(split_part({value}, '-', 1), ':.', ''), {digits}, '0')").format(
            value=value, digits=sql.Literal(_DIGITS[condition.kind])
        )
    low, high = condition.values
    return sql.SQL('({value} COLLATE "C" BETWEEN {low} AND {high})').format(
        value=value, low=sql.Literal(low), high=sql.Literal(high)
    )


def _modalities_in_study(condition: Condition) -> sql.Composable:
    operator = sql.SQL("= ANY" if condition.kind is MatchKind.VALUE else "LIKE ANY")
    return sql.SQL(
        "EXISTS (SELECT FROM held_series s WHERE s.study_instance_uid = st.study_instance_uid"
        " AND s.patient = st.patient AND (s.attributes #>> {path}) {operator}({values}))"
    ).format(path=sql.Literal(f"{{{_MODALITY},Value,0}}"), operator=operator, values=_array(condition.values))


def _array(values: Sequence[str]) -> sql.Composable:
    return sql.SQL("{}::text[]").format(sql.Literal(list(values)))


def _match(row: DictRow) -> Match:
    many = ("modalities_in_study", "sop_classes_in_study", "transfer_syntaxes", "remarks")
    return Match(**{**row, **{name: tuple(row[name] or ()) for name in many}})
