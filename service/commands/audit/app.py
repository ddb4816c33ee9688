"""``semblance audit``: its commands."""

from __future__ import annotations

import typer

from service.commands.audit.chain import export, make_checkpoint, prove, verify_chain
from service.commands.audit.changes import list_changes
from service.commands.audit.keys import keys_app
from service.commands.audit.messages import list_messages

audit_app = typer.Typer(
    name="audit",
    help="Audit messages, and the chain over all that is sealed: verify, sign, export.\n\n"
    "Example: `semblance audit verify`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
audit_app.command("list")(list_messages)
audit_app.command("changes")(list_changes)
audit_app.command("verify")(verify_chain)
audit_app.command("checkpoint")(make_checkpoint)
audit_app.command("export")(export)
audit_app.command("prove")(prove)
audit_app.add_typer(keys_app)
