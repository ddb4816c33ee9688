"""``python -m reporting``: the FHIR API and DICOMweb, for reading; ``service.commands.api`` also takes STOW-RS."""

from __future__ import annotations

import sys

from reporting.dicomweb.app import dicomweb_app
from reporting.dicomweb.call import PATH
from reporting.http.ledger import PATH as LEDGER_PATH
from reporting.http.ledger import ledger_app
from reporting.http.server import serve
from service.config import load_settings
from service.errors import ConfigurationError
from service.exit_codes import ExitCode


def main() -> int:
    """Serve until told to stop; 2 when the configuration is wrong."""
    try:
        serve(load_settings(), {PATH: dicomweb_app, LEDGER_PATH: ledger_app})
    except ConfigurationError as exc:
        sys.stderr.write(f"semblance api: {exc}\n")
        return ExitCode.USAGE
    return ExitCode.DONE


if __name__ == "__main__":
    raise SystemExit(main())
