"""The ``semblance`` command in the test's own process."""

from __future__ import annotations

import sys
from unittest.mock import patch

import pytest

from service.commands.main import main


def semblance(*arguments: str) -> int:
    """Run ``semblance ...`` with the environment as it is; returns its exit code."""
    with patch.object(sys, "argv", ["semblance", *arguments]), pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)
