"""How our own processes are started: this interpreter, this command, nothing out of the current folder."""

from __future__ import annotations

import sys

# -P: a module that lies in the current folder is not imported (Python 3.11, "safe path").
PROGRAM = (sys.executable, "-P", "-m", __package__)
