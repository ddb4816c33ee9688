"""How it runs: destinations, breakers, queues, what was given up, methods in force, who may log in."""

from __future__ import annotations

from reporting.outcomes.database import pairs, phases, queue
from reporting.web.database import users
from reporting.web.page import Moved, PageProblemError, Seen, Shown, Visit
from service.database import dead_letters, instances, outbox, reappraisals, reratings, studies
from service.database.delivery import deliveries, destinations
from service.database.pool import transaction
from service.errors import RecordNotFoundError, UnknownStepError
from service.pipeline.again.retry import dead_instances, retry_instance

_LISTED = 50


def system(visit: Visit) -> Shown:
    """``/system``."""
    api = visit.api
    with transaction(api.pool) as connection:
        states, counts = destinations.states(connection), destinations.counts(connection)
        configured = {each.name: each for each in api.settings.destinations}
        dead = dead_letters.all_open(connection)
        facts = {
            "destinations": [
                (name, configured.get(name), states.get(name), counts.get(name))
                for name in sorted({*configured, *counts})
            ],
            "given_up": deliveries.dead(connection, limit=_LISTED),
            "dead": dead[:_LISTED],
            "dead_left_out": max(0, len(dead) - _LISTED),
            "outbox": outbox.waiting(connection),
            "states": instances.counts_by_state(connection),
            "studies": studies.counts_by_state(connection),
            "behind": queue.behind(connection),
            "conflicts": len(pairs.open_conflicts(connection)),
            "reappraisals": reappraisals.progress(connection),
            "reratings": reratings.progress(connection),
            "not_comparable": reratings.not_comparable(connection),
            "methods": [row for row in phases.listed(connection) if row["phase"]],
            "users": users.everyone(connection),
            "login": api.settings.web_login,
            "method": api.settings.method,
        }
    return Shown(template="system.html", facts=facts, seen=Seen(note="system looked at"))


def retry_all(visit: Visit) -> Moved:
    """``POST /system/retry``: take up everything that was given up.

    Raises:
        PageProblemError: 409: nothing could be taken up.
    """
    taken = 0
    with transaction(visit.api.pool) as connection:
        chosen = dead_instances(connection)
    for instance_id in chosen:
        try:
            with transaction(visit.api.pool) as connection:
                retry_instance(connection, instance_id)
            taken += 1
        except (RecordNotFoundError, UnknownStepError):
            continue  # taken up meanwhile, or of a step that this version lacks: it stays on the list
    if not taken:
        raise PageProblemError(409, "Nothing could be taken up.")
    return Moved(path="/system", seen=Seen(note=f"taken up again: {taken} photographs"))
