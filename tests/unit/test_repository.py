"""What the repository itself must hold to: licence, pins, versions, nothing of one machine."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections import Counter
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import service
from scripts.pins import closure

ROOT = Path(__file__).resolve().parents[2]
CHANGELOG = ROOT / "CHANGELOG.md"
LONGEST_MODULE = 450  # lines; the aim is 300, and a plain table may be longer
LONGEST_ENTRY = 300  # characters of one line of the changelog

PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and line[0] != "#"
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = [
    Requirement(line)
    for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for line in group
]


def tracked() -> list[Path]:
    """Files under version control."""
    listing = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def texts() -> list[tuple[str, str]]:
    """Name and content of every text file under version control."""
    found = []
    for path in tracked():
        data = path.read_bytes()
        if b"\0" not in data[:8192]:
            found.append((str(path.relative_to(ROOT)), data.decode("utf-8", errors="replace")))
    return found


def modules(*tops: str) -> list[tuple[str, ast.Module]]:
    """Name and syntax tree of every Python module in these folders."""
    return [
        (path, ast.parse(text)) for path, text in texts() if path.endswith(".py") and path.startswith(tops)
    ]


def imported(tree: ast.Module) -> set[str]:
    """Full names of what a module imports, wherever in it; ``from a.b import c`` is ``a.b`` and ``a.b.c``."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = "." * node.level + (node.module or "")
            found |= {start} | {f"{start}.{each.name}" for each in node.names}
    return found


def of_tests(names: set[str]) -> set[str]:
    """Those of imported names that are modules of tests."""
    return {name for name in names if any(part.startswith("test_") for part in name.split("."))}


def test_no_test_imports_from_another() -> None:
    """What tests share lies in modules of its own."""
    assert {
        path: found for path, tree in modules("tests/", "bench/") if (found := of_tests(imported(tree)))
    } == {}


@pytest.mark.parametrize(
    "line", ["from tests.unit.test_ci import run", "from tests.unit import test_ci", "from . import test_ci",
             "import tests.unit.test_ci", "def late():\n    from .test_ci import run"]
)  # fmt: skip
def test_an_import_of_a_test_is_found(line: str) -> None:
    assert of_tests(imported(ast.parse(line)))
    assert not of_tests(imported(ast.parse("from tests.records import offered\nimport pytest")))


def hidden_imports(path: str, tree: ast.Module) -> list[str]:
    """Modules of ours that a module names in a string, and ways to import by name: no contract sees those.

    Its own package it may name, for the files that lie in it.
    """
    own = path.removesuffix(".py").replace("/", ".")
    found = sorted(imported(tree) & {"importlib", "importlib.import_module", "runpy", "pkgutil"})
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == "__import__":
            found.append(node.id)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            named = re.fullmatch(r"(service|reporting|dicom_node|migrations)(\.\w+)+", node.value)
            place = ROOT / node.value.replace(".", "/") if named else None
            is_module = place is not None and (place.is_dir() or place.with_suffix(".py").is_file())
            if is_module and not own.startswith(f"{node.value}."):
                found.append(node.value)
    return found


def test_nothing_is_imported_by_name() -> None:
    ours = modules("service/", "reporting/", "dicom_node/")
    assert {path: found for path, tree in ours if (found := hidden_imports(path, tree))} == {}


@pytest.mark.parametrize(
    "line",
    [
        'load("service.commands.main")',
        "import importlib",
        "from importlib import import_module",
        '__import__("service.commands")',
    ],
)
def test_an_import_by_name_is_found(line: str) -> None:
    assert hidden_imports("service/appraisal/change.py", ast.parse(line))
    harmless = 'from importlib.resources import files\nfiles("service.appraisal")\n"service.tasks.appraise"'
    assert not hidden_imports("service/appraisal/change.py", ast.parse(harmless))


def statements(tree: ast.Module) -> list[str]:
    """SQL statements on tables that a module holds."""
    changing = r"INSERT\s+INTO\s|UPDATE\s+\w+\s+(?:\w+\s+)?SET\s|DELETE\s+FROM\s"
    verbs = rf"\s*(?:SELECT\b.*\sFROM\s+\w|{changing}|WITH\s.*\sAS\s*\()"
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.match(verbs, node.value, re.DOTALL)
    ]


def test_sql_lies_with_its_owner() -> None:
    """In folders named database; what makes the database itself has none yet."""
    ours = [
        (path, tree)
        for path, tree in modules("service/", "reporting/", "dicom_node/")
        if "/database/" not in path and path != "service/stack/servers.py"
    ]
    assert {path: found for path, tree in ours if (found := statements(tree))} == {}


@pytest.mark.parametrize(
    "statement",
    ["SELECT 1 AS one FROM instance", "\nINSERT INTO instance (a)", "UPDATE instance SET a = 1",
     "DELETE FROM instance", "WITH x AS (SELECT 1)"],
)  # fmt: skip
def test_sql_is_found(statement: str) -> None:
    assert statements(ast.parse(f"QUERY = {statement!r}")) == [statement]
    assert statements(ast.parse("'SELECT 1'; 'Update the picture'; 'Selected from the archive'")) == []


def test_every_function_and_class_has_a_user() -> None:
    """In the product or its benches: what tests alone use is dead. The room of published formulas stands."""
    used = Counter(
        word
        for path, text in texts()
        if path.endswith(".py") and not path.startswith("tests/")
        for word in re.findall(r"\w+", text)
    )
    dead = [
        f"{path}: {item.name}"
        for path, text in texts()
        if path.endswith(".py") and path.startswith(("service/", "reporting/", "dicom_node/"))
        and "/statistics/" not in path
        for item in ast.parse(text).body
        if isinstance(item, ast.FunctionDef | ast.ClassDef)
        and not item.decorator_list
        and used[item.name] == 1
    ]  # fmt: skip
    assert dead == []


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: requirement.name)
def test_every_requirement_is_pinned_to_a_version_it_allows(requirement: Requirement) -> None:
    assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)], prereleases=True)


def test_pins_are_exact_and_name_no_address() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]

    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[A-Za-z0-9.!_]+", line)] == []


def test_pins_are_all_that_is_required() -> None:
    assert set(closure(REQUIREMENTS)) - set(PINS) == set(), "run: make pins"


def test_what_extras_lead_to_is_pinned_too() -> None:
    assert "redis" in closure([Requirement("celery[redis]")])
    assert "redis" not in closure([Requirement("celery")])


def test_a_requirement_that_is_not_installed_cannot_be_pinned() -> None:
    with pytest.raises(PackageNotFoundError):
        closure([Requirement("no-such-distribution")])


def test_there_is_one_opencv() -> None:
    assert [name for name in PINS if "opencv" in name] == ["opencv-contrib-python"]


def test_no_package_under_the_gpl_decodes_pixels() -> None:
    assert {"pylibjpeg-libjpeg", "pillow-heif"} & set(PINS) == set()


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?<![\w.])/(?:root|home/[a-z]+|Users/[A-Za-z]+|work)/",
        r"--(?:extra-)?index-url[ =](?!\"\$)|--find-links|PIP_INDEX_URL",
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    ],
    ids=["paths of one machine", "package registries", "private keys"],
)
def test_nothing_of_one_machine_is_kept(pattern: str) -> None:
    own = str(Path(__file__).relative_to(ROOT))

    assert [name for name, text in texts() if name != own and re.search(pattern, text)] == []


def conflicts(text: str) -> list[str]:
    """Lines that a merge left behind for a person to decide on (git, with any style of conflict)."""
    return re.findall(r"^(?:<{7}|\|{7}|>{7})(?: .*)?$", text, re.MULTILINE)


def test_no_conflict_of_a_merge_is_kept() -> None:
    assert {name: found for name, text in texts() if (found := conflicts(text))} == {}


@pytest.mark.parametrize(("style", "marks"), [([], 2), (["--diff3"], 3)], ids=["merge", "diff3"])
def test_a_conflict_of_a_merge_is_found(style: list[str], marks: int, tmp_path: Path) -> None:
    for name, line in (("ours", "one"), ("base", "zero"), ("theirs", "two")):
        (tmp_path / name).write_text(f"before\n{line}\nafter\n")
    merged = subprocess.run(
        ["git", "merge-file", "-p", *style, "ours", "base", "theirs"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )

    assert merged.returncode == 1
    assert len(conflicts(merged.stdout)) == marks
    assert conflicts("Title\n=======\n\n>>> import service\n") == []


def test_modules_stay_short() -> None:
    long = {
        name: lines
        for name, text in texts()
        if name.endswith(".py") and (lines := text.count("\n")) > LONGEST_MODULE
    }

    assert long == {}


def test_the_licence_is_the_whole_text() -> None:
    text = (ROOT / "LICENSE").read_text()

    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_one_version_everywhere() -> None:
    chart = yaml.safe_load((ROOT / "charts" / "semblance" / "Chart.yaml").read_text())
    released = re.findall(r"^## (\d+\.\d+\.\d+)\b", CHANGELOG.read_text(), re.MULTILINE)

    assert chart["appVersion"] == service.__version__
    assert released[:1] in ([], [service.__version__])


def test_the_changelog_is_one_line_a_change_under_known_headings() -> None:
    kinds = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]  # of keepachangelog.com
    for version in CHANGELOG.read_text().split("\n## ")[1:]:
        title, _, body = version.partition("\n")
        introduction, *sections = re.split(r"^### ", body, flags=re.MULTILINE)
        headings = [section.splitlines()[0] for section in sections]
        lines = [line for section in sections for line in section.splitlines()[1:] if line]

        assert re.fullmatch(r"Unreleased|\d+\.\d+\.\d+ - \d{4}-\d{2}-\d{2}", title)
        assert not re.search(r"^[-*#]", introduction, re.MULTILINE), "an entry without its heading"
        assert headings == [kind for kind in kinds if kind in headings]
        assert [line for line in lines if not line.startswith("- ") or len(line) > LONGEST_ENTRY] == []
        assert len(set(lines)) == len(lines)
