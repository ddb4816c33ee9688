"""Templates made pages: Jinja with autoescape, in the reader's language."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from reporting.web.texts.catalogue import Texts


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("reporting.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def rendered(template: str, texts: Texts, facts: Mapping[str, Any]) -> bytes:
    """Render a template.

    Args:
        template: Its file name.
        texts: ``_`` of the template.
        facts: Its other names.
    """
    return _environment().get_template(template).render(_=texts, **facts).encode()
