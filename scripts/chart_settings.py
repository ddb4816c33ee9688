"""Write every setting, with its type, into the chart's values.schema.json from service.config.Settings.

With ``--check`` nothing is written: exit status 1 and a message when the schema is out of date.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from service.config import Settings

DOCUMENT = Path(__file__).resolve().parent.parent / "charts" / "semblance" / "values.schema.json"
_LEFT_OUT = {"default", "title", "format"}  # the schema is for checking; configuration.md is for reading


def plain(schema: Any, definitions: dict[str, Any]) -> Any:
    """A schema without references and what is for reading only; objects refuse what they do not know."""
    if isinstance(schema, list):
        return [plain(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return plain(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    made = {}
    for name, value in schema.items():
        if name == "properties":
            made[name] = {each: plain(of, definitions) for each, of in value.items()}
        elif name not in _LEFT_OUT:
            made[name] = plain(value, definitions)
    return made


def settings_schema(present: dict[str, Any]) -> dict[str, Any]:
    """The schema of ``settings``: all of Settings but what the chart sets itself.

    Args:
        present: The schema as it stands; what it refuses by name stays refused.
    """
    whole = Settings.model_json_schema()
    refused = {each["required"][0] for each in present["not"]["anyOf"]}
    properties = {
        name: plain(schema, whole.get("$defs", {}))
        for name, schema in whole["properties"].items()
        if name not in refused
    }
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "not": present["not"],
    }


def document(text: str) -> str:
    """The schema's file with the settings of today."""
    schema = json.loads(text)
    schema["properties"]["settings"] = settings_schema(schema["properties"]["settings"])
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    """Write or check."""
    present = DOCUMENT.read_text(encoding="utf-8")
    wanted = document(present)
    if "--check" in sys.argv[1:]:
        if present != wanted:
            sys.stderr.write(f"{DOCUMENT.name} is out of date: run `make docs`\n")
            return 1
        return 0
    DOCUMENT.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
