"""The documents agree with the code and with each other."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import typer

from dicom_node.encoding.statuses import StoreStatus
from dicom_node.intake.ingest import STATUSES
from scripts.document_settings import filled
from service.commands.main import app
from service.config import Settings, load_settings
from service.records import InstanceState
from service.steps import STEPS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("charts/*/README.md")])
CONFIGURATION = ROOT / "docs" / "configuration.md"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented(name: str) -> None:
    assert f"`SEMBLANCE_{name.upper()}`" in CONFIGURATION.read_text(encoding="utf-8")


def test_the_table_of_settings_is_what_the_code_says() -> None:
    text = CONFIGURATION.read_text(encoding="utf-8")

    assert filled(text) == text, "run: make docs"


def test_a_document_without_its_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="settings: begin"):
        filled("# Configuration\n")


def test_the_settings_named_in_any_document_exist() -> None:
    known = {f"SEMBLANCE_{name.upper()}" for name in Settings.model_fields} | {"SEMBLANCE_CONFIG"}
    named = {
        (document.name, name)
        for document in DOCUMENTS
        for name in re.findall(
            r"SEMBLANCE_[A-Z0-9]+(?:_[A-Z0-9]+)*\b(?!\*)", document.read_text(encoding="utf-8")
        )
        if not name.startswith("SEMBLANCE_TEST_")
    }

    assert {pair for pair in named if pair[1] not in known} == set()


def test_the_example_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = re.search(r"```toml\n(.*?)```", CONFIGURATION.read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    path = tmp_path / "semblance.toml"
    path.write_text(example[1])
    monkeypatch.setenv("SEMBLANCE_CONFIG", str(path))

    settings = load_settings()

    assert settings.destinations[0].ae_title == "PACS"
    assert settings.dicom_allowed_calling_ae_titles == ("CAMERA1", "PACS")


def test_the_example_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    exports = re.findall(r"^export (\w+)='(.*)'$", CONFIGURATION.read_text(encoding="utf-8"), re.MULTILINE)
    assert exports
    for name, value in exports:
        monkeypatch.setenv(name, value)

    assert load_settings().destinations[0].port == 104


def prose(document: Path) -> str:
    """A document's text without its blocks of code."""
    return re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(document: Path) -> set[str]:
    """What a link may name in a document, as code hosts derive it from the headings."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(document: Path) -> None:
    text = prose(document)
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    astray = []
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            astray.append(link)

    assert astray == []


def gone(text: str) -> list[str]:
    """Files, folders and modules of ours that a text names in code and that do not exist."""
    there = re.sub(r".*\bnot there yet\b.*", "", text)
    code = " ".join(
        re.findall(r"`([^`\n]+)`", there) + re.findall(r"^```.*?^```|^    \S.*$", there, re.M | re.S)
    )
    own = "service|reporting|dicom_node|migrations|scripts|bench|tests|charts|docs"
    paths = re.findall(rf"(?<![\w./-])(?:{own})/[\w./-]*", code)
    modules = re.findall(r"python -m ([a-z_][\w.]*)", code)
    dotted = re.findall(r"(?<![\w./-])(?:service|reporting|dicom_node)(?:\.[a-z_]\w*)+", code)
    return [
        *(path for path in paths if not (ROOT / path.rstrip(".")).exists()),
        *(name for name in modules if name.split(".")[0] in own.split("|") and not runs(name)),
        *(name for name in dotted if not is_module(name)),
    ]


def is_module(name: str) -> bool:
    """Whether a module or package of ours has this dotted name, or defines what it ends in."""
    path = ROOT.joinpath(*name.split("."))
    if path.with_suffix(".py").is_file() or path.is_dir():
        return True
    module = path.parent.with_suffix(".py")
    return (
        module.is_file()
        and re.search(rf"^(?:class |def )?{path.name}\b", module.read_text(), re.M) is not None
    )


def runs(name: str) -> bool:
    """Whether ``python -m`` runs it."""
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


@pytest.mark.parametrize(
    "document", [*DOCUMENTS, *ROOT.glob("service/**/*.md")], ids=lambda path: str(path.relative_to(ROOT))
)
def test_the_files_and_modules_it_names_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    if document.name == "CHANGELOG.md":
        text = re.sub(r"^.* (?:is|are) gone\b.*$", "", text, flags=re.MULTILINE)

    assert gone(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "`service/cli.py`",
        "`reporting.fhir.nothing`",
        "    python -m service.relay",
        "```sh\npython -m dicom_node --port 1\n```",
        "see `service/weights/nothing.md`",
    ],
)
def test_a_file_that_is_gone_is_found(text: str) -> None:
    assert gone(text) != []


def test_a_file_that_exists_may_be_named() -> None:
    assert (
        gone("`service/config.py`, `service.config.Settings`, `migrations/versions/` and `a/service/x`") == []
    )


def pictures(name: str, kind: str) -> str:
    """The diagrams of one kind in a document."""
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    return "\n".join(re.findall(rf"^```mermaid\n{kind}\b(.*?)^```", text, re.MULTILINE | re.DOTALL))


def test_the_picture_of_a_c_store_has_every_status_we_answer_with() -> None:
    drawn = set(re.findall(r"\b0x[0-9A-F]{4}\b", pictures("dicom.md", "sequenceDiagram")))

    answers = (StoreStatus.SUCCESS, *dict(STATUSES).values(), StoreStatus.UNFORESEEN)

    assert drawn == {f"0x{status:04X}" for status in answers}


def test_the_picture_of_the_states_has_every_state_and_step() -> None:
    arrows = re.findall(
        r"^    (\S+) --> ([^\s:]+)(?:: (\w+))?", pictures("architecture.md", "stateDiagram-v2"), re.M
    )
    steps = {(step.begins_in.value, step.ends_in.value, step.task) for step in STEPS}
    retries = {("dead", step.begins_in.value) for step in STEPS}

    assert {end for arrow in arrows for end in arrow[:2]} - {"[*]"} == {
        state.value for state in InstanceState
    }
    assert {arrow for arrow in arrows if arrow[2] in {step.task for step in STEPS}} == steps
    assert {arrow[:2] for arrow in arrows if arrow[0] == "dead"} == retries


def test_the_picture_of_the_floors_is_what_the_import_contracts_say() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    core = next(contract["layers"] for contract in contracts if contract.get("containers") == ["service"])
    above = next(contract["layers"] for contract in contracts if "dicom_node" in contract.get("layers", []))
    drawn = pictures("architecture.md", "flowchart")
    floors = re.findall(r"<b>([\w. ,]+)</b>|\[\"([a-z_, ]+)\"\]", drawn)
    named = [name for floor in floors for name in re.split(r"[ ,]+", floor[0] or floor[1])]
    layers = [name for layer in core[1:] for name in re.split(r"[ :|]+", layer)]

    assert [name for name in named if name in layers] == layers
    assert [name for name in named if name in above] == above[:3]
    assert set(named) == {*layers, *above[:3], "migrations"}


def test_every_room_is_on_the_page_of_the_house() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:service|reporting|dicom_node)(?:/\w+)*)/?`", page))
    rooms = {
        str(path.parent.relative_to(ROOT))
        for top in ("service", "reporting", "dicom_node")
        for path in (ROOT / top).rglob("__init__.py")
    }
    inside = ("service/appraisal/methods/", "service/training/occlusion/")  # rooms told of as a whole

    missing = {room for room in rooms if not room.startswith(inside)} - named
    assert missing == set(), "say in docs/architecture.md what they own"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_commands_it_names_exist(document: Path) -> None:
    known = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    named = set(
        re.findall(
            r"(?:`|^|bin/)semblance ([a-z]+)\b(?![.:])", document.read_text(encoding="utf-8"), re.MULTILINE
        )
    )

    assert named - known == set()


def test_the_index_lists_every_document() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")

    assert [
        path.name for path in ROOT.glob("docs/*.md") if path.name != "index.md" and path.name not in index
    ] == []
