"""Today: photographs that arrived, wait, were rejected, delivered, given up; each number opens its list."""

from __future__ import annotations

from reporting.outcomes.database import pairs, queue
from reporting.web.database import today
from reporting.web.database.today import COUNTED, Show
from reporting.web.page import Shown, Visit
from reporting.web.people import Need
from service.database.pool import transaction

_SAID = {
    Show.ARRIVED: ("Arrived", "today"),
    Show.WAITING: ("Waiting", "now"),
    Show.REJECTED: ("Rejected", "today, could not be judged"),
    Show.DELIVERED: ("Delivered", "today"),
    Show.DEAD: ("Given up", "waits for somebody"),
}


def start(visit: Visit) -> Shown:
    """``/``."""
    with transaction(visit.api.pool) as connection:
        counted = today.counts(connection, today.midnight(visit.zone))
        conflicts = len(pairs.open_conflicts(connection)) if visit.visitor.may(Need.DECIDE) else 0
        behind = queue.behind(connection) if visit.visitor.may(Need.SYSTEM) else 0
        has_any = today.has_any(connection)
    tiles = [(show.value, counted[show], *_SAID[show]) for show in COUNTED]
    facts = {"tiles": tiles, "conflicts": conflicts, "behind": behind, "has_any": has_any}
    return Shown(template="start.html", facts=facts)
