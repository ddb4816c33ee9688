"""``semblance destinations``: how each destination fares, and what it was not given."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer

from service.commands.options import DataDir, settings_of
from service.commands.state import Output
from service.commands.use import note_use
from service.config import Settings
from service.database import outbox
from service.database.delivery import deliveries, destinations
from service.database.delivery.destinations import DeliveryCounts, DestinationState
from service.database.pool import Connection, connect
from service.errors import ConfigurationError
from service.peers import Destination
from service.records import BreakerState, LedgerEvent
from service.steps import DELIVER


def destinations_command(
    name: Annotated[str | None, typer.Argument(help="Name of a destination; none: all.")] = None,
    *,
    probe: Annotated[
        bool, typer.Option("--probe", help="Try the destination now, however long it is to be left alone.")
    ] = False,
    output: Annotated[Output, typer.Option(help="How to print.")] = Output.TABLE,
    data_dir: DataDir = Path("var"),
) -> None:
    """Show where results go: whether each destination answers, what waits for it, what was given up.

    Example: `semblance destinations`, or `semblance destinations pacs --probe` after it was repaired.
    """
    if probe and name is None:
        raise typer.BadParameter("name the destination to probe")
    settings = settings_of(data_dir)
    with connect(settings) as connection:
        found = _found(connection, settings, name)
        note_use(connection, LedgerEvent.SEARCHED, " ".join(filter(None, ("semblance destinations", name))))
        if name is not None and probe:
            _probe(connection, name)
            note_use(connection, LedgerEvent.ACTED, f"semblance destinations {name} --probe")
            found = _found(connection, settings, name)
    if output is Output.JSON:
        sys.stdout.write(json.dumps(found, indent=2, default=str) + "\n")
        return
    for row in found["destinations"]:
        sys.stdout.writelines(f"{line}\n" for line in _lines(row))
    if found["dead"]:
        sys.stdout.write("Given up\n")
    for row in found["dead"]:
        sys.stdout.write(f"  {row['result']}\n    to {row['destination']}, {row['attempts']} attempts")
        sys.stdout.write(f": {row['error']}\n" if row["error"] else "\n")


def _probe(connection: Connection, name: str) -> None:
    """Make the breaker's next probe due, and enqueue what is to make it."""
    if destinations.lock(connection, name).breaker is BreakerState.OPEN:
        destinations.open_breaker(connection, name, 0.0, again=False)
    for delivery_id in destinations.next_due(connection, name, 1):
        outbox.put(connection, DELIVER.task, DELIVER.queue, delivery_id)
    outbox.nudge(connection)


def _found(
    connection: Connection, settings: Settings, name: str | None
) -> dict[str, list[dict[str, object]]]:
    states, counts = destinations.states(connection), destinations.counts(connection)
    configured = {each.name: each for each in settings.destinations}
    names = [name] if name is not None else sorted({*configured, *counts})
    if name is not None and name not in {*configured, *counts}:
        raise ConfigurationError(f"no destination {name!r}, neither in the settings nor among deliveries")
    return {
        "destinations": [
            _row(each, configured.get(each), states.get(each), counts.get(each)) for each in names
        ],
        "dead": [
            {
                "destination": each.destination,
                "result": each.sop_instance_uid,
                "attempts": each.attempts,
                "error": each.last_error,
            }
            for each in deliveries.dead(connection, name)
        ],
    }


def _row(
    name: str,
    configured: Destination | None,
    state: DestinationState | None,
    counts: DeliveryCounts | None,
) -> dict[str, object]:
    counts = counts or DeliveryCounts(pending=0, under_way=0, dead=0, done=0)
    breaker = state.breaker if state is not None else BreakerState.CLOSED
    return {
        "destination": name,
        "node": _address(configured) if configured else "not in these settings",
        "breaker": breaker.value,
        "next_probe_s": round(state.retry_in_s) if state and breaker is BreakerState.OPEN else None,
        "waiting": counts.pending - counts.under_way,
        "under_way": counts.under_way,
        "done": counts.done,
        "dead": counts.dead,
        "answered": state.succeeded_at.isoformat(timespec="seconds")
        if state and state.succeeded_at
        else None,
        "failures": state.failures if state else 0,
        "last_error": state.last_error if state else "",
    }


def _lines(row: Mapping[str, object]) -> Iterator[str]:
    """A destination for people, in lines that fit a terminal of 80 columns."""
    yield f"{row['destination']}  {row['node']}"
    probe = f", tried again in {row['next_probe_s']} s" if row["next_probe_s"] is not None else ""
    yield f"  breaker {row['breaker']}{probe}; last answer {row['answered'] or 'none'}"
    yield (
        f"  {row['waiting']} waiting, {row['under_way']} under way, {row['done']} delivered, "
        f"{row['dead']} given up"
    )
    if row["failures"]:
        yield f"  failed {row['failures']} times in a row: {row['last_error']}"
    yield ""


def _address(destination: Destination) -> str:
    if destination.kind == "dicomweb":
        return destination.url
    return f"{destination.ae_title} {destination.host}:{destination.port}"
