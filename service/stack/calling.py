"""How people call the ``semblance`` command from where they are."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

_NAME = "semblance"


def called_as() -> str:
    """Say what to type: the name where PATH leads to this very command, else its path.

    ``make demo`` runs from an environment that is not on PATH.
    """
    ours = Path(sys.executable).with_name(_NAME)
    found = shutil.which(_NAME)
    if not ours.exists() or (found is not None and Path(found).samefile(ours)):
        return _NAME
    here = Path.cwd()
    if not ours.is_relative_to(here):
        return str(ours)
    relative = ours.relative_to(here)
    return str(relative) if len(relative.parts) > 1 else f"./{relative}"
