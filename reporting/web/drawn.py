"""Charts that were drawn a moment ago: who goes from a chart to its points sees the same chart, at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from reporting.outcomes.charts.records import Chart
from reporting.outcomes.drawing import Asked

LASTS_S = 60.0
_MOST = 32


@dataclass(eq=False)
class DrawnCharts:
    """The charts of one process; a chart is drawn again after a minute, or once something was decided."""

    _kept: dict[Asked, tuple[float, Chart]] = field(default_factory=dict)  # asked -> when (monotonic), chart
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, asked: Asked, draw: Callable[[], Chart]) -> Chart:
        """Give a chart, drawn now if it is not there or too old; what cannot be drawn is not kept."""
        now_s = time.monotonic()
        with self._lock:
            found = self._kept.get(asked)
        if found is not None and now_s - found[0] < LASTS_S:
            return found[1]
        chart = draw()
        with self._lock:
            self._kept.pop(asked, None)
            while len(self._kept) >= _MOST:
                self._kept.pop(next(iter(self._kept)))
            self._kept[asked] = (now_s, chart)
        return chart

    def forget(self) -> None:
        """Let go of all: something they were drawn from was changed."""
        with self._lock:
            self._kept.clear()
