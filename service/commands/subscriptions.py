"""``semblance subscriptions``: which EHRs are told of results, and what was given up."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from reporting.fhir.database import subscriptions as fhir_subscriptions
from reporting.fhir.database.subscriptions import DeadLetter, Standing
from reporting.fhir.subscriptions.rules import revive
from service.commands.options import DataDir, settings_of
from service.database.pool import connect
from service.errors import RecordNotFoundError


def subscriptions_command(
    subscription: Annotated[
        str | None, typer.Argument(help="Id of one, for what was given up of it; none: all.")
    ] = None,
    *,
    retry: Annotated[bool, typer.Option("--retry", help="Send what was given up again.")] = False,
    data_dir: DataDir = Path("var"),
) -> None:
    """Show which EHRs are told of results and what was given up, as lines of JSON; or try that again.

    Example: `semblance subscriptions`, then `semblance subscriptions 1b2c --retry` after it was repaired.
    """
    if retry and subscription is None:
        raise typer.BadParameter("name the subscription to retry")
    settings = settings_of(data_dir)
    with connect(settings) as connection:
        if retry and subscription is not None:
            number = revive(connection, subscription, settings)
            sys.stdout.write(f"{number} notifications are on their way again\n")
            return
        standings = fhir_subscriptions.standings(connection)
        if subscription is None:
            found: Sequence[Standing | DeadLetter] = standings
        elif subscription in {each.subscription_id for each in standings}:
            found = fhir_subscriptions.dead_letters(connection, subscription)
        else:
            raise RecordNotFoundError(f"no Subscription {subscription}")
    sys.stdout.writelines(f"{json.dumps(asdict(each), default=str)}\n" for each in found)
