"""Write constraints.txt anew: what this environment holds of what Semblance requires, exactly.

Packages that nothing in pyproject.toml leads to are left out. The comment at the head is kept.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent


def declared(pyproject: Path) -> list[Requirement]:
    """Requirements of the project and of every extra."""
    project = tomllib.loads(pyproject.read_text())["project"]
    extras = [line for group in project["optional-dependencies"].values() for line in group]
    return [Requirement(line) for line in [*project["dependencies"], *extras]]


def closure(requirements: Iterable[Requirement]) -> dict[str, str]:
    """Installed version of each package the requirements lead to, by canonical name.

    Raises:
        importlib.metadata.PackageNotFoundError: A required package is not installed.
    """
    versions: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            distribution = metadata.distribution(name)
            versions[name] = distribution.version
            for line in distribution.requires or []:
                needed = Requirement(line)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    waiting.append(needed)
    return versions


def main() -> int:
    """Write the file and say how many packages it pins."""
    path = ROOT / "constraints.txt"
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    versions = closure(declared(ROOT / "pyproject.toml"))
    path.write_text("\n".join([*head, *(f"{name}=={versions[name]}" for name in sorted(versions))]) + "\n")
    sys.stdout.write(f"{len(versions)} packages pinned\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
