"""``python -m service.commands``: the ``semblance`` command."""

from __future__ import annotations

from service.commands.main import main

main()
