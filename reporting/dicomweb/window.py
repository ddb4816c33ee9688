"""Windows on grey values (DICOM PS3.3 section C.11.2.1.2, PS3.18 section 8.3.5.1.4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reporting.dicomweb.problem import DicomwebError

_FUNCTIONS = ("linear", "linear-exact", "sigmoid")


@dataclass(frozen=True, kw_only=True)
class Window:
    """What values are shown from black to white."""

    centre: float
    width: float  # > 0; of linear >= 1
    function: str = "linear"

    def apply(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values from 0, black, to 1, white."""
        if self.function == "sigmoid":
            return np.asarray(1.0 / (1.0 + np.exp(-4.0 * (values - self.centre) / self.width)))
        if self.function == "linear-exact":
            return np.asarray(np.clip((values - self.centre) / self.width + 0.5, 0.0, 1.0))
        return np.asarray(
            np.clip((values - (self.centre - 0.5)) / max(self.width - 1.0, 1e-12) + 0.5, 0.0, 1.0)
        )


def window_of(text: str) -> Window:
    """Read the query parameter ``window``: centre, width, function.

    Raises:
        DicomwebError: 400.
    """
    parts = [part.strip() for part in text.split(",")]
    try:
        centre, width = float(parts[0]), float(parts[1])
    except (ValueError, IndexError) as exc:
        raise DicomwebError(400, "window is centre,width,function") from exc
    function = parts[2].lower() if len(parts) > 2 else "linear"
    if function not in _FUNCTIONS or len(parts) > 3:
        raise DicomwebError(400, f"a window's function is one of {', '.join(_FUNCTIONS)}")
    if not np.isfinite([centre, width]).all() or width <= 0 or (function == "linear" and width < 1):
        raise DicomwebError(400, "a window's width is above 0, and of the linear function 1 or more")
    return Window(centre=centre, width=width, function=function)
