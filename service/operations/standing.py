"""The state of the whole installation as metrics, asked of the database when somebody scrapes.

The relay tells it, since there is one wherever Semblance runs. Two relays tell the same: dashboards and
alerts take the greatest.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.database import standing
from service.database.delivery import destinations
from service.database.delivery.destinations import DestinationState
from service.database.pool import Pool, transaction
from service.database.standing import NewResults, Waiting
from service.errors import DatabaseUnavailableError
from service.operations.drift import distance, distance_limit, share_below
from service.records import BreakerState

_RECENT: Final = 500  # photographs whose results are compared with those before
_BEFORE: Final = 2000
_LEAST: Final = 50  # on either side, for a comparison
_MEASURES: Final = ("score", "sharpness", "exposure_ev", "inter_ocular_px", "yaw_deg")


class StoreSpace(Collector):
    """Free space of the instance store."""

    def __init__(self, directory: Path) -> None:
        """Look at nothing yet.

        Args:
            directory: Of the store.
        """
        self._directory = directory

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that registering it looks at nothing."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Bytes that are free; nothing when the directory is not there."""
        try:
            free = shutil.disk_usage(self._directory).free
        except OSError:
            return
        yield _gauge("semblance_store_free_bytes", "Free space of the instance store.", [((), free)])


class Standing(Collector):
    """Metrics of the installation; see the module's text."""

    def __init__(self, pool: Pool) -> None:
        """Ask nothing yet.

        Args:
            pool: Of the process.
        """
        self._pool = pool

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that registering it asks no database."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Everything, or that the database cannot be asked."""
        up = GaugeMetricFamily("semblance_database_up", "Whether the database answered this scrape.")
        try:
            with transaction(self._pool) as connection:
                connection.execute("SET LOCAL statement_timeout = '5s'")
                found = [
                    *_waiting(standing.waiting(connection)),
                    *_deliveries(standing.undelivered(connection), destinations.states(connection)),
                    *_seals(standing.unsealed(connection)),
                    *_resting(standing.resting(connection)),
                    *_outcomes(standing.newest_results(connection, _RECENT, _BEFORE, _MEASURES)),
                ]
        except DatabaseUnavailableError:
            up.add_metric((), 0)
            yield up
            return
        up.add_metric((), 1)
        yield up
        yield from found


def _gauge(
    name: str, text: str, values: Iterable[tuple[Sequence[str], float]], labels: Sequence[str] = ()
) -> Metric:
    gauge = GaugeMetricFamily(name, text, labels=labels)
    for of, value in values:
        gauge.add_metric(of, value)
    return gauge


def _waiting(queues: Sequence[Waiting]) -> Iterator[Metric]:
    yield _gauge(
        "semblance_waiting",
        "Work that could be done now.",
        [([q.queue], q.number) for q in queues],
        ("queue",),
    )
    ages = [([q.queue], q.oldest_s) for q in queues]
    yield _gauge(
        "semblance_oldest_waiting_seconds", "How long the oldest of it has waited.", ages, ("queue",)
    )


def _deliveries(pending: Mapping[str, int], states: Mapping[str, DestinationState]) -> Iterator[Metric]:
    numbers = [([name], pending.get(name, 0)) for name in sorted({*pending, *states})]
    text = "Results that a destination has still to get."
    yield _gauge("semblance_pending_deliveries", text, numbers, ("destination",))
    breakers = [([name], float(of.breaker is not BreakerState.CLOSED)) for name, of in states.items()]
    text = "Whether a destination is left alone for now, since it failed."
    yield _gauge("semblance_breaker_open", text, breakers, ("destination",))


def _seals(unsealed: tuple[int, float]) -> Iterator[Metric]:
    yield _gauge("semblance_unsealed_rows", "Rows that wait for their seal.", [((), unsealed[0])])
    yield _gauge("semblance_seal_lag_seconds", "How long the oldest of them has waited.", [((), unsealed[1])])


def _resting(kinds: Mapping[str, int]) -> Iterator[Metric]:
    values = [([kind], number) for kind, number in kinds.items()]
    yield _gauge("semblance_resting", "What waits for a person's decision.", values, ("kind",))


def _outcomes(found: NewResults | None) -> Iterator[Metric]:
    """What came out of late, and how far that is from before and from the normal cohort."""
    if found is None:
        return
    of = [found.method]
    text = "Share of the newest photographs that could not be judged."
    yield _gauge("semblance_rejected_share", text, [(of, found.rejected)], ("method",))
    reasons = [([found.method, reason], share) for reason, share in found.reasons.items()]
    text = "Share of the newest photographs with this reason of rejection."
    yield _gauge("semblance_rejected_reason_share", text, reasons, ("method", "reason"))
    text = "How many photographs the newest are."
    yield _gauge("semblance_newest_photographs", text, [(of, found.number)], ("method",))
    if len(found.percentiles) >= _LEAST:
        text = "Share of the newest results below the fifth percentile of the normal cohort."
        yield _gauge("semblance_below_p5_share", text, [(of, share_below(found.percentiles, 5))], ("method",))
    distances, limits = [], []
    for measure, recent in found.recent.items():
        before = found.before[measure]
        if min(len(recent), len(before)) >= _LEAST:
            distances.append(([found.method, measure], distance(recent, before)))
            limits.append(([found.method, measure], distance_limit(len(recent), len(before))))
    labels = ("method", "measure")
    text = "Distance of the newest results' distribution from those before (Kolmogorov, Smirnov), 0 to 1."
    yield _gauge("semblance_drift_distance", text, distances, labels)
    text = "That distance which chance alone passes once in a thousand times."
    yield _gauge("semblance_drift_limit", text, limits, labels)
