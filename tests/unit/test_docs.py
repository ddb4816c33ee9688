"""The documents agree with the code and with each other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from scripts.document_settings import filled
from service.commands.main import app
from service.config import Settings, load_settings

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


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    targets = [link.split("#")[0] for link in links if not re.match(r"[a-z]+:", link)]

    assert [target for target in targets if target and not (document.parent / target).exists()] == []


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
