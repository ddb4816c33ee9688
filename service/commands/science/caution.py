"""What a person is told who chooses a method that sees little."""

from __future__ import annotations

from rich.console import Console

from service.appraisal.registry import find_method


def caution(method: str, errors: Console) -> None:
    """Say what to beware of in a method's results, where there is something.

    Args:
        method: Key in METHODS, or "normaliser+comparator".
        errors: Standard error.

    Raises:
        UnknownMethodError: No such method.
    """
    said = find_method(method).caution
    if said:
        errors.print(f"{method}: {said}", highlight=False, soft_wrap=True)
