"""FHIR searches as SQL: criteria become conditions, pages follow indexes by keyset.

The order of a page is chosen so that an index ends in it: Observations by effective time, newest first,
unless they are looked for by a value over all patients, then by that value; other types newest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reporting.fhir.database import persons as fhir_persons
from reporting.fhir.database.layout.vocabulary import Vocabulary, vocabulary
from reporting.fhir.database.records import (
    Comparator,
    Modifier,
    Page,
    QuantityValue,
    Search,
    SearchType,
    SortKey,
    StoredResource,
)
from reporting.fhir.database.rows import ROW_WIDTH, columns, stored
from reporting.fhir.database.searching import components as fhir_components
from reporting.fhir.database.searching.conditions import Base, condition, needs_vocabulary
from reporting.fhir.database.searching.person_criteria import of_persons, survivors
from service.database.pool import Connection, tuples

_COLUMNS = columns("r")


@dataclass(frozen=True, kw_only=True)
class _Order:
    """A key of the order: an SQL expression over the base tables."""

    expression: str
    cast: str  # SQL type its cursor text is cast to
    descending: bool
    nullable: bool


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """FROM, WHERE and ORDER BY of a search."""

    source: str
    row_id: str
    where: str
    parameters: list[object]
    orders: tuple[_Order, ...]


def search(connection: Connection, wanted: Search) -> Page:
    """Read one page.

    Args:
        connection: In a transaction.
        wanted: The search; ``count`` resources at most, after ``after``.
    """
    plan = _plan(connection, wanted)
    keys = ", ".join(f"{order.expression} AS k{i}" for i, order in enumerate(plan.orders))
    where, parameters = plan.where, list(plan.parameters)
    if wanted.after:
        where += " AND " + _after(plan, wanted.after, parameters)
    inner_order = ", ".join(_direction(order.expression, order) for order in plan.orders)
    outer_order = ", ".join(_direction(f"k{i}", order) for i, order in enumerate(plan.orders))
    texts = ", ".join(f"k{i}::text AS t{i}" for i in range(len(plan.orders)))
    parameters.append(wanted.count + 1)
    query = (
        f"SELECT {_COLUMNS}, {texts} FROM (SELECT {plan.row_id} AS page_row, {keys} "
        f"FROM {plan.source} WHERE {where} ORDER BY {inner_order} LIMIT %s) page "
        f"JOIN fhir_resource r ON r.resource_id = page_row ORDER BY {outer_order}"
    )
    rows = tuples(connection).execute(query.encode(), parameters).fetchall()
    brief = wanted.in_brief and wanted.resource_type == "Observation"
    resources = [stored(row[:ROW_WIDTH], in_brief=brief) for row in rows[: wanted.count]]
    more = len(rows) > wanted.count and resources
    return Page(resources=resources, after=tuple(rows[wanted.count - 1][ROW_WIDTH:]) if more else ())


def count(connection: Connection, wanted: Search) -> int:
    """Count every match."""
    plan = _plan(connection, wanted)
    row = (
        tuples(connection)
        .execute(
            f"SELECT count(*) FROM {plan.source} WHERE {plan.where}".encode(),
            plan.parameters,
        )
        .fetchone()
    )
    assert row is not None  # noqa: S101 - an aggregate always has a row
    return int(row[0])


def estimate(connection: Connection, wanted: Search) -> int:
    """Estimate the number of matches from the planner's statistics, in time that does not grow with it."""
    plan = _plan(connection, wanted)
    row = (
        tuples(connection)
        .execute(
            f"EXPLAIN (FORMAT JSON) SELECT 1 FROM {plan.source} WHERE {plan.where}".encode(),
            plan.parameters,
        )
        .fetchone()
    )
    assert row is not None  # noqa: S101 - EXPLAIN always has a row
    return int(row[0][0]["Plan"]["Plan Rows"])


def last_n(connection: Connection, wanted: Search, most: int) -> list[StoredResource]:
    """Read the newest Observations of every code that match, as ``$lastn`` defines.

    Those of each code are read along the index of a patient's newest, and no more of them than asked for.

    Args:
        connection: In a transaction.
        wanted: A search for Observations; its order and page are ignored.
        most: Observations per code at most.
    """
    plan = _plan(connection, replace(wanted, sort=(), after=()))
    rows = (
        tuples(connection)
        .execute(
            f"SELECT {_COLUMNS} FROM fhir_observed_code k CROSS JOIN LATERAL ("
            "SELECT o.resource_id AS page_row, o.effective "
            f"FROM {plan.source} WHERE o.code_system = k.system AND o.code = k.code AND {plan.where} "
            "ORDER BY o.effective DESC, o.resource_id DESC LIMIT %s) page "
            "JOIN fhir_resource r ON r.resource_id = page_row "
            "ORDER BY k.code, page.effective DESC, page_row DESC".encode(),
            [*plan.parameters, most],
        )
        .fetchall()
    )
    return [stored(row) for row in rows]


def including(
    connection: Connection, row_ids: Sequence[int], param: int, target_type: str | None, most: int
) -> list[StoredResource]:
    """Read what resources refer to by a sparse reference parameter (``_include``)."""
    rows = (
        tuples(connection)
        .execute(
            f"SELECT DISTINCT ON (r.resource_id) {_COLUMNS} FROM fhir_reference f "
            "JOIN fhir_resource r ON r.type = f.target_type AND r.id = f.target_id "
            "WHERE f.resource_id = ANY(%s) AND f.param = %s AND (%s::text IS NULL OR f.target_type = %s) "
            "ORDER BY r.resource_id LIMIT %s".encode(),
            (list(row_ids), param, target_type, target_type, most),
        )
        .fetchall()
    )
    return [stored(row) for row in rows]


def including_column(
    connection: Connection, row_ids: Sequence[int], column: str, target_type: str, most: int
) -> list[StoredResource]:
    """Read what resources refer to by a reference kept in a column (``_include``)."""
    source = "fhir_observation" if column in ("o.patient", "o.device") else "fhir_resource"
    referred = f"s.{column.split('.')[1]}"
    if target_type == "Patient":  # and who stands for it
        referred += f", (SELECT p.person FROM fhir_person p WHERE p.patient = {referred})"
    rows = (
        tuples(connection)
        .execute(
            f"SELECT DISTINCT ON (r.resource_id) {_COLUMNS} FROM {source} s "
            f"JOIN fhir_resource r ON r.type = %s AND r.id IN ({referred}) "
            "WHERE s.resource_id = ANY(%s) ORDER BY r.resource_id LIMIT %s".encode(),
            (target_type, list(row_ids), most),
        )
        .fetchall()
    )
    return [stored(row) for row in rows]


def referring(
    connection: Connection,
    targets: Sequence[tuple[str, str]],
    resource_type: str,
    param: int,
    most: int,
) -> list[StoredResource]:
    """Read the resources of a type that refer to any target by a sparse parameter (``_revinclude``)."""
    rows = (
        tuples(connection)
        .execute(
            f"SELECT DISTINCT ON (r.resource_id) {_COLUMNS} FROM fhir_reference f "
            "JOIN unnest(%s::text[], %s::text[]) AS wanted(t, i) ON f.target_id = i AND f.target_type = t "
            "JOIN fhir_resource r ON r.resource_id = f.resource_id "
            "WHERE f.param = %s AND r.type = %s ORDER BY r.resource_id LIMIT %s".encode(),
            ([t for t, _ in targets], [i for _, i in targets], param, resource_type, most),
        )
        .fetchall()
    )
    return [stored(row) for row in rows]


def referring_column(
    connection: Connection, ids: Sequence[str], resource_type: str, column: str, most: int
) -> list[StoredResource]:
    """Read the resources of a type whose reference column names any id (``_revinclude``)."""
    hot = column in ("o.patient", "o.device")
    if column.endswith(".patient"):
        ids = [each for every in fhir_persons.members_of(connection, ids).values() for each in every]
    source = "fhir_observation s JOIN fhir_resource r USING (resource_id)" if hot else "fhir_resource r"
    name = f"{'s' if hot else 'r'}.{column.split('.')[1]}"
    rows = (
        tuples(connection)
        .execute(
            f"SELECT {_COLUMNS} FROM {source} "
            f"WHERE {name} = ANY(%s) AND r.type = %s ORDER BY r.resource_id LIMIT %s".encode(),
            (list(ids), resource_type, most),
        )
        .fetchall()
    )
    return [stored(row) for row in rows]


# --- planning


def _plan(connection: Connection, wanted: Search) -> _Plan:
    wanted = of_persons(connection, wanted)
    hot = wanted.resource_type == "Observation"
    base = Base.OBSERVATION if hot else Base.RESOURCE
    parameters: list[object] = []
    conditions: list[str] = []
    source, row_id = ("fhir_observation o", "o.resource_id") if hot else ("fhir_resource b", "b.resource_id")
    if not hot:
        conditions.append("b.type = %s")
        parameters.append(wanted.resource_type)
    if hot and _needs_resource(wanted):
        source += " JOIN fhir_resource b ON b.resource_id = o.resource_id"
    if survivors(wanted):
        conditions.append(survivors(wanted))
    every = [*wanted.criteria, *(c for alternative in wanted.either for c in alternative)]
    words = vocabulary(connection) if any(needs_vocabulary(c) for c in every) else Vocabulary()
    for criterion in wanted.criteria:
        conditions.append(condition(criterion, base, parameters, words))
    if wanted.before is not None:
        conditions.append("b.last_updated < %s")
        parameters.append(wanted.before)
    if wanted.either:
        alternatives = [
            " AND ".join(condition(c, base, parameters, words) for c in alternative) or "TRUE"
            for alternative in wanted.either
        ]
        conditions.append("(" + " OR ".join(f"({a})" for a in alternatives) + ")")
    return _Plan(
        source=source,
        row_id=row_id,
        where=" AND ".join(conditions) or "TRUE",
        parameters=parameters,
        orders=_orders(wanted, words, row_id),
    )


def _needs_resource(wanted: Search) -> bool:
    if wanted.before is not None:
        return True
    parameters = [c.parameter for c in wanted.criteria] + [k.parameter for k in wanted.sort]
    for alternative in wanted.either:
        parameters += [c.parameter for c in alternative]
    return any(parameter.column.startswith("b.") for parameter in parameters)


def _over_all_patients(wanted: Search) -> bool:
    return not wanted.sort and not any(
        c.parameter.column in ("o.patient", "b.id") or c.parameter.name in ("identifier", "derived-from")
        for c in wanted.criteria
    )


_RANGES = (Comparator.EQ, Comparator.LT, Comparator.LE, Comparator.GT, Comparator.GE)


def _orders(  # noqa: PLR0911 - a line for each order
    wanted: Search, words: Vocabulary, row_id: str
) -> tuple[_Order, ...]:
    if wanted.in_row_order:
        return (_tie(row_id, descending=False),)
    if wanted.sort:
        keys = tuple(_sort_key(wanted, i) for i in range(len(wanted.sort)))
        return (*keys, _tie(row_id, descending=keys[-1].descending))
    if wanted.resource_type != "Observation":
        return (_tie(row_id, descending=True),)
    if not _over_all_patients(wanted):
        return (_NEWEST, _tie(row_id, descending=True))
    for criterion in wanted.criteria:
        slot = fhir_components.driving_slot(criterion, words)
        if slot is not None:
            return (_ascending(f"o.amounts[{slot}]", "float8"), _tie(row_id, descending=False))
    by_value = any(
        c.parameter.column == "o.value"
        and c.modifier is Modifier.NONE
        and all(isinstance(v, QuantityValue) and v.comparator in _RANGES for v in c.values)
        for c in wanted.criteria
    )
    if by_value:
        return (_ascending("o.value", "numeric"), _tie(row_id, descending=False))
    return (_NEWEST, _tie(row_id, descending=True))


_NEWEST = _Order(expression="o.effective", cast="timestamptz", descending=True, nullable=False)


def _ascending(expression: str, cast: str) -> _Order:
    return _Order(expression=expression, cast=cast, descending=False, nullable=False)


def _tie(row_id: str, *, descending: bool) -> _Order:
    return _Order(expression=row_id, cast="bigint", descending=descending, nullable=False)


def _sort_key(wanted: Search, place: int) -> _Order:
    key = wanted.sort[place]
    column = key.parameter.column or key.column or _sparse_key(wanted, key)
    cast = {SearchType.DATE: "timestamptz", SearchType.QUANTITY: "numeric"}.get(key.parameter.type, "text")
    nullable = column == "o.value" or not key.parameter.column
    return _Order(expression=column, cast=cast, descending=key.descending, nullable=nullable)


_KEYS = {
    SearchType.DATE: ("low", "fhir_date"),
    SearchType.STRING: ("folded", "fhir_string"),
    SearchType.TOKEN: ("code", "fhir_token"),
    SearchType.URI: ("code", "fhir_token"),
}


def _sparse_key(wanted: Search, key: SortKey) -> str:
    """SQL of a resource's first value of a sparse parameter; of its last where the order descends."""
    column, table = _KEYS[key.parameter.type]
    base = "o" if wanted.resource_type == "Observation" else "b"
    pick = "max" if key.descending else "min"
    return (
        f"(SELECT {pick}(x.{column}) FROM {table} x"
        f" WHERE x.resource_id = {base}.resource_id AND x.param = {key.parameter.number:d})"
    )


def _direction(expression: str, order: _Order) -> str:
    nulls = " NULLS LAST" if order.nullable else ""
    return f"{expression} {'DESC' if order.descending else 'ASC'}{nulls}"


def _after(plan: _Plan, cursor: Sequence[str | None], parameters: list[object]) -> str:
    """Condition that a row comes after the cursor's in the plan's order."""
    orders = plan.orders
    uniform = len({order.descending for order in orders}) == 1
    if uniform and not any(order.nullable for order in orders):
        left = ", ".join(order.expression for order in orders)
        right = ", ".join(f"%s::{order.cast}" for order in orders)
        parameters.extend(cursor)
        return f"({left}) {'<' if orders[0].descending else '>'} ({right})"
    alternatives = []
    for depth, order in enumerate(orders):
        parts = []
        for earlier, value in zip(orders[:depth], cursor, strict=False):
            parts.append(f"{earlier.expression} IS NOT DISTINCT FROM %s::{earlier.cast}")
            parameters.append(value)
        value = cursor[depth]
        if value is None:
            continue  # nothing comes after NULL by this key
        beyond = f"{order.expression} {'<' if order.descending else '>'} %s::{order.cast}"
        parameters.append(value)
        parts.append(f"({beyond} OR {order.expression} IS NULL)" if order.nullable else beyond)
        alternatives.append("(" + " AND ".join(parts) + ")")
    return "(" + " OR ".join(alternatives) + ")"
