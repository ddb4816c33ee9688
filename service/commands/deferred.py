"""Commands whose modules are loaded only when they are called: they need the science, which is heavy.

So `migrate`, `status` and `--help` answer at once, and go on working where the science cannot be loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from typer._click.core import Command, Context

_Loaded = Callable[..., None] | typer.Typer


def _score() -> _Loaded:
    from service.commands.science.score import score

    return score


def _benchmark() -> _Loaded:
    from service.commands.science.benchmark import benchmark

    return benchmark


def _repeatability() -> _Loaded:
    from service.commands.science.repeatability import repeatability

    return repeatability


def _change() -> _Loaded:
    from service.commands.science.change import change

    return change


def _validate() -> _Loaded:
    from service.commands.science.validate import validate_command

    return validate_command


def _models() -> _Loaded:
    from service.commands.science.models import app

    return app


def _train() -> _Loaded:
    from service.commands.train.commands import train_app

    return train_app


@dataclass(frozen=True, kw_only=True)
class Deferred:
    """One command that is loaded when it is called."""

    load: Callable[[], _Loaded]
    summary: str  # what the list of commands says; the first sentence of the command's own help


DEFERRED: Mapping[str, Deferred] = MappingProxyType(
    {
        "score": Deferred(
            load=_score,
            summary="Score photographs: how normal each face looks, where it differs, and whether it could "
            "be judged.",
        ),
        "benchmark": Deferred(
            load=_benchmark,
            summary="Measure synthetic validity: how well methods find, rank and localise synthetic "
            "anomalies.",
        ),
        "repeatability": Deferred(
            load=_repeatability,
            summary="Measure within-subject SD, smallest detectable change and ICC, per region, and store "
            "them.",
        ),
        "change": Deferred(
            load=_change,
            summary="Say which regions changed between two photographs by more than the method varies by "
            "itself.",
        ),
        "validate": Deferred(
            load=_validate,
            summary="Compare scores with human ratings: Pearson, Spearman, MAE, W1, agreement of the raters.",
        ),
        "models": Deferred(load=_models, summary="Model files: list, verify, pull, convert."),
        "train": Deferred(
            load=_train, summary="Make the weights of the methods (CPU or one GPU; resumable)."
        ),
    }
)


class DeferringGroup(TyperGroup):
    """A group that puts the real command in a deferred one's place when that is called."""

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        """Find the command that the arguments name."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, loaded(name) if name is not None and name in DEFERRED else command, rest


def loaded(name: str) -> Command:
    """Load a command of the table."""
    found = DEFERRED[name].load()
    family = typer.Typer(rich_markup_mode="markdown")
    family.callback()(_announced)
    if isinstance(found, typer.Typer):
        family.add_typer(found, name=name)
    else:
        family.command(name)(found)
    group = typer.main.get_command(family)
    assert isinstance(group, TyperGroup)  # noqa: S101 -- typer makes a group of what has a callback
    return group.commands[name]


def announce(app: typer.Typer) -> None:
    """Name the deferred commands to an app made with ``cls=DeferringGroup``, in the table's order."""
    for name, deferred in DEFERRED.items():
        app.command(name, help=deferred.summary)(_announced)


def _announced() -> None:
    """Stand where a command is listed; ``DeferringGroup`` calls the real one."""
