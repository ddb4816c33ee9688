"""How destinations fare: the circuit breaker of each, shared by all workers, and its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import DictRow

from service.database.pool import Connection
from service.records import BreakerState

_COLUMNS = (
    "destination, breaker, failures, openings, retry_at, changed_at, succeeded_at, failed_at, last_error,"
    " greatest(extract(epoch FROM retry_at - clock_timestamp()), 0)::float8 AS retry_in_s"
)


@dataclass(frozen=True, kw_only=True)
class DestinationState:
    """What is known of one destination."""

    destination: str
    breaker: BreakerState
    failures: int  # in a row
    openings: int  # of the breaker, in a row
    retry_at: datetime  # open: when it is probed next; half-open: when the probe counts as lost
    changed_at: datetime  # of the breaker
    succeeded_at: datetime | None  # it answered last
    failed_at: datetime | None  # it did not, last
    last_error: str
    retry_in_s: float  # until retry_at, by the database's clock; 0 when that is past


@dataclass(frozen=True, kw_only=True)
class DeliveryCounts:
    """A destination's deliveries."""

    pending: int  # those under way too
    under_way: int
    dead: int
    done: int  # delivered or committed


def _state(row: DictRow) -> DestinationState:
    return DestinationState(**{**row, "breaker": BreakerState(row["breaker"])})


def lock(connection: Connection, destination: str) -> DestinationState:
    """The state of a destination, made if it has none, its row held until the transaction ends."""
    row = connection.execute(
        "INSERT INTO destination_state (destination) VALUES (%s)"  # noqa: S608 -- constant
        " ON CONFLICT (destination) DO UPDATE SET destination = excluded.destination RETURNING " + _COLUMNS,
        (destination,),
    ).fetchone()
    if row is None:
        raise AssertionError("an upsert answers a row")
    return _state(row)


def states(connection: Connection) -> dict[str, DestinationState]:
    """Every state, by destination."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM destination_state ORDER BY destination")  # noqa: S608
    return {row["destination"]: _state(row) for row in rows}


def counts(connection: Connection) -> dict[str, DeliveryCounts]:
    """Every destination's deliveries, by destination."""
    rows = connection.execute(
        "SELECT destination, count(*) FILTER (WHERE state = 'pending') AS pending,"
        " count(*) FILTER (WHERE state = 'pending' AND claimed_until > now()) AS under_way,"
        " count(*) FILTER (WHERE state = 'dead') AS dead,"
        " count(*) FILTER (WHERE state IN ('delivered', 'committed')) AS done"
        " FROM delivery GROUP BY destination"
    )
    return {
        row["destination"]: DeliveryCounts(
            pending=row["pending"], under_way=row["under_way"], dead=row["dead"], done=row["done"]
        )
        for row in rows
    }


def answered(connection: Connection, destination: str) -> None:
    """Note that it is there: the breaker closes."""
    connection.execute(
        "UPDATE destination_state SET breaker = 'closed', failures = 0, openings = 0, last_error = '',"
        " succeeded_at = now(), retry_at = now(),"
        " changed_at = CASE WHEN breaker = 'closed' THEN changed_at ELSE now() END WHERE destination = %s",
        (destination,),
    )


def failed(connection: Connection, destination: str, error: str) -> None:
    """Note a failure; the breaker stays as it is."""
    connection.execute(
        "UPDATE destination_state SET failures = failures + 1, failed_at = now(), last_error = %s"
        " WHERE destination = %s",
        (error, destination),
    )


def open_breaker(connection: Connection, destination: str, pause_s: float, *, again: bool = True) -> None:
    """Leave it alone for ``pause_s`` seconds.

    Args:
        connection: In a transaction.
        destination: Name.
        pause_s: Until the next probe.
        again: Whether this opening makes the next pause longer.
    """
    connection.execute(
        "UPDATE destination_state SET breaker = 'open', openings = openings + %s,"
        " changed_at = CASE WHEN breaker = 'closed' THEN now() ELSE changed_at END,"
        " retry_at = clock_timestamp() + make_interval(secs => %s) WHERE destination = %s",
        (1 if again else 0, pause_s, destination),
    )


def begin_probe(connection: Connection, destination: str, lease_s: float) -> None:
    """Let one delivery through; another may try when this one has not ended within ``lease_s`` seconds."""
    connection.execute(
        "UPDATE destination_state SET breaker = 'half-open',"
        " retry_at = clock_timestamp() + make_interval(secs => %s) WHERE destination = %s",
        (lease_s, destination),
    )


def under_way(connection: Connection, destination: str) -> int:
    """How many deliveries workers are sending to it now."""
    row = connection.execute(
        "SELECT count(*) AS n FROM delivery WHERE destination = %s AND state = 'pending'"
        " AND claimed_until > now()",
        (destination,),
    ).fetchone()
    return int(row["n"]) if row else 0


def next_due(connection: Connection, destination: str, limit: int) -> list[int]:
    """Ids of deliveries to it that are due, those that waited longest first."""
    rows = connection.execute(
        "SELECT delivery_id FROM delivery WHERE destination = %s AND state = 'pending'"
        " AND next_attempt_at <= now() ORDER BY next_attempt_at, delivery_id LIMIT %s"
        " FOR UPDATE SKIP LOCKED",
        (destination, limit),
    )
    return [int(row["delivery_id"]) for row in rows]
