"""``python -m service.commands.subscriptions``: who is told of results; what ``semblance subscriptions`` runs."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from reporting.fhir.database import subscriptions as fhir_subscriptions
from reporting.fhir.subscriptions.rules import revive
from service.config import load_settings
from service.database.pool import connect
from service.errors import SemblanceError
from service.exit_codes import ExitCode, code_of


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="semblance subscriptions", description="Who is told of results.")
    parser.add_argument("subscription", nargs="?", help="id of one, for what was given up of it; none: all")
    parser.add_argument("--retry", action="store_true", help="send what was given up again")
    options = parser.parse_args(arguments)
    if options.retry and options.subscription is None:
        parser.error("name the subscription to retry")
    try:
        settings = load_settings()
        with connect(settings) as connection:
            if options.retry:
                number = revive(connection, options.subscription, settings)
                sys.stdout.write(f"{number} notifications are on their way again\n")
                return ExitCode.DONE
            found = (
                fhir_subscriptions.standings(connection)
                if options.subscription is None
                else fhir_subscriptions.dead_letters(connection, options.subscription)
            )
    except SemblanceError as exc:
        sys.stderr.write(f"semblance: {exc}\n")
        return code_of(exc)
    sys.stdout.writelines(f"{json.dumps(asdict(each), default=str)}\n" for each in found)
    return ExitCode.DONE


if __name__ == "__main__":
    raise SystemExit(main())
