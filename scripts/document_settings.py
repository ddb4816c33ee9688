"""Write the table of settings into docs/configuration.md from service.config.Settings.

With ``--check`` nothing is written: exit status 1 and a message when the table is out of date.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from service.config import Settings

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"


def shape(field: FieldInfo) -> str:
    """How the type of a setting reads: ``text``, ``whole number``, ``list of Destination``..."""
    names = {
        "str": "text",
        "int": "whole number",
        "float": "number",
        "bool": "true or false",
        "Path": "path",
    }

    def read(annotation: object) -> str:
        parts = [part for part in get_args(annotation) if part not in (type(None), Ellipsis)]
        if parts and all(isinstance(part, str) for part in parts):
            return ", ".join(f"`{part}`" for part in parts)
        if getattr(annotation, "__origin__", None) is tuple:
            return f"list of {read(parts[0])}"
        if getattr(annotation, "__origin__", None) is dict:
            return f"map of {read(parts[0])} to {read(parts[1])}"
        if parts:
            return read(parts[0])
        name = getattr(annotation, "__name__", str(annotation))
        return names.get(name, name)

    return read(field.annotation)


def default(field: FieldInfo) -> str:
    """How the default of a setting reads."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value in (None, "", (), {}):
        return "empty"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`"


def escaped(cell: str) -> str:
    """A cell's text with what Markdown would take for its own."""
    return cell.replace("|", "\\|").replace("<", "&lt;")


def table(model: type[BaseModel], prefix: str) -> str:
    """A Markdown table with a row per field.

    Args:
        model: The settings.
        prefix: What goes before the upper-case name in the environment; "" for keys in a file.
    """
    rows = ["| Setting | Type | Default | Meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        shown = f"{prefix}{name.upper()}" if prefix else name
        cells = (f"`{shown}`", shape(field), default(field), field.description or "")
        rows.append("| " + " | ".join(escaped(cell) for cell in cells) + " |")
    return "\n".join(rows)


def records() -> str:
    """A heading and a table for each kind of record that lists in the settings hold."""
    kinds = held_by(Settings)
    return "\n\n".join(f"### {name}\n\n{table(kind, '')}" for name, kind in sorted(kinds.items()))


def held_by(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The kinds of record that a model's lists hold, and that those hold, by name."""
    kinds: dict[str, type[BaseModel]] = {}
    for field in model.model_fields.values():
        for part in get_args(field.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel):
                kinds |= {part.__name__: part} | held_by(part)
    return kinds


def filled(text: str) -> str:
    """The document with its generated parts made anew.

    Raises:
        ValueError: A marker is missing.
    """
    for name, content in (
        ("settings", table(Settings, "SEMBLANCE_")),
        ("records", records()),
    ):
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"{begin.strip()} ... {end} is not in the document")
        text = f"{before}{begin}{content}\n{end}{after}"
    return text


def main(arguments: list[str]) -> int:
    """Write or check the document; exit status."""
    text = DOCUMENT.read_text(encoding="utf-8")
    if filled(text) == text:
        return 0
    if "--check" in arguments:
        sys.stderr.write("docs/configuration.md does not agree with service/config.py; run: make docs\n")
        return 1
    DOCUMENT.write_text(filled(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
