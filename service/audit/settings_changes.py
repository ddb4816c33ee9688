"""What differs in the settings of a process from when one of its name started before: lines of the ledger."""

from __future__ import annotations

import json
import re

from service import __version__
from service.config import Settings
from service.database import ledger
from service.database.pool import Connection
from service.records import LedgerEvent

_VERSION = "version"  # of the program; stands among the settings
_IN_URL = re.compile(r"(://[^:/@\s\"']*):[^\s\"']*@")
_AS_PARAMETER = re.compile(r"(?i)((?:password|passwd|pwd|token|secret)=)[^&\s\"']+")


def note_changes(connection: Connection, settings: Settings, process: str) -> int:
    """Write down each setting that is not as it was at the last start; at the first, as it is by default.

    Passwords within values are left out, so a change of a password alone leaves no line.

    Args:
        connection: In a transaction.
        settings: Those of the process that starts.
        process: Its name, as ``node``; replicas share one history.

    Returns:
        How many lines were written.
    """
    before = {**_told(Settings.model_construct()), _VERSION: "", **ledger.last_settings(connection, process)}
    after = {**_told(settings), _VERSION: __version__}
    changed = [name for name in after if after[name] != before[name]]
    if changed:
        ledger.append_many(
            connection,
            [
                (
                    LedgerEvent.SETTING_CHANGED, None, "",
                    {"process": process, "setting": name, "before": before[name], "after": after[name]},
                )
                for name in changed
            ],
        )  # fmt: skip
    return len(changed)


def _told(settings: Settings) -> dict[str, str]:
    """Each setting as JSON, without passwords."""
    return {
        name: without_passwords(json.dumps(value, ensure_ascii=False, sort_keys=True))
        for name, value in settings.model_dump(mode="json").items()
    }


def without_passwords(text: str) -> str:
    """A text with the passwords of URLs and of connection strings left out."""
    return _AS_PARAMETER.sub(r"\1***", _IN_URL.sub(r"\1:***@", text))
