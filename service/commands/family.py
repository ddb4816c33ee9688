"""The group of all commands: it lists the table and loads a command when that is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from typer.core import TyperGroup

from service.commands.deferred import COMMANDS, Panel

if TYPE_CHECKING:
    from typer._click.core import Command as ClickCommand
    from typer._click.core import Context
    from typer._click.formatting import HelpFormatter


class DeferringGroup(TyperGroup):
    """A group that puts the real command in its row's place when that is called.

    Its help is plain text: to load what draws boxes takes longer than all the rest.
    """

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the commands by panel."""
        del ctx
        for panel in Panel:
            rows = [
                (name, each.summary)
                for name, each in COMMANDS.items()
                if each.panel is panel and not each.hidden
            ]
            with formatter.section(panel.value):
                formatter.write_dl(rows)

    def resolve_command(
        self, ctx: Context, args: list[str]
    ) -> tuple[str | None, ClickCommand | None, list[str]]:
        """Find the command that the arguments name."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, loaded(name) if name is not None and name in COMMANDS else command, rest


def loaded(name: str) -> ClickCommand:
    """Load a command of the table."""
    found = COMMANDS[name].load()
    family = typer.Typer(rich_markup_mode="rich")
    family.callback()(_announced)
    if isinstance(found, typer.Typer):
        family.add_typer(found, name=name)
    else:
        family.command(name)(found)
    group = typer.main.get_command(family)
    assert isinstance(group, TyperGroup)  # noqa: S101 -- typer makes a group of what has a callback
    command = group.commands[name]
    _let_flow(command)
    return command


def _let_flow(command: ClickCommand) -> None:
    """Let paragraphs of the help be as wide as the terminal, not as the docstring they come from."""
    paragraphs = (command.help or "").split("\n\n")
    command.help = "\n\n".join(" ".join(each.split()) for each in paragraphs)
    for within in getattr(command, "commands", {}).values():
        _let_flow(within)


def announce(app: typer.Typer) -> None:
    """Name the commands to an app made with ``cls=DeferringGroup``, in the table's order."""
    for name, command in COMMANDS.items():
        app.command(name, help=command.summary, hidden=command.hidden)(_announced)


def _announced() -> None:
    """Stand where a command is listed; ``DeferringGroup`` calls the real one."""
