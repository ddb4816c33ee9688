"""The container image, the Compose files and the chart start what exists, with settings that are read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.commands.deferred import COMMANDS
from service.config import Settings
from tests.unit.rendering import pod_specs, rendered

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
OURS = {name: each for name, each in COMPOSE["services"].items() if each["image"] == "semblance"}
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def commands() -> list[list[str]]:
    """Every command that a container is started with."""
    chart = [
        container["command"] for spec in pod_specs(rendered({})).values() for container in spec["containers"]
    ]
    return [each["command"] for each in OURS.values()] + [command for command in chart if command[0] != "sh"]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_is_one_of_ours(command: list[str]) -> None:
    assert command[0] == "semblance"
    assert command[1] in COMMANDS


def test_each_process_of_the_chart_runs_under_compose_too() -> None:
    chart = {name.removeprefix("demo-semblance-") for name in pod_specs(rendered({}))} - {
        "answers",
        "migration",
    }

    assert set(OURS) == chart | {"migrate"}


@pytest.mark.parametrize("name", OURS)
def test_a_compose_service_gets_settings_that_exist(name: str) -> None:
    environment = OURS[name]["environment"]

    assert {
        key for key in environment if key.removeprefix("SEMBLANCE_").lower() not in Settings.model_fields
    } == set()
    assert {"SEMBLANCE_DATABASE_URL", "SEMBLANCE_BROKER_URL", "SEMBLANCE_STORAGE_DIR"} <= set(environment)


def test_only_the_migration_is_the_owner_of_the_schema() -> None:
    owners = {name for name, each in OURS.items() if "SEMBLANCE_DATABASE_OWNER_URL" in each["environment"]}

    assert owners == {"migrate"}
    assert {each["environment"]["SEMBLANCE_DATABASE_URL"].split(":")[1] for each in OURS.values()} == {
        "//semblance_writer"
    }


@pytest.mark.parametrize("name", OURS)
def test_a_compose_service_has_no_privileges(name: str) -> None:
    service = OURS[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]


def test_an_api_that_others_can_reach_knows_whom_it_serves() -> None:
    environment = OURS["api"]["environment"]

    assert environment["SEMBLANCE_API_HOST"] != Settings().api_host
    assert any(
        environment["SEMBLANCE_FHIR_AUTH_FILE"].startswith(mount.split(":")[1])
        for mount in OURS["api"]["volumes"]
    )


def test_nothing_starts_before_the_schema_is_there() -> None:
    for name, service in OURS.items():
        if name != "migrate":
            assert service["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def test_no_password_is_written_down() -> None:
    assert re.findall(r"(?im)^\s*\w*pass(?:word)?: *(?!\$\{)\S+", (ROOT / "compose.yaml").read_text()) == []


def test_the_gpu_file_only_changes_a_service_there_is() -> None:
    overlay = yaml.safe_load((ROOT / "compose.gpu.yaml").read_text())

    assert set(overlay["services"]) <= set(OURS)


def test_the_image_runs_as_an_unprivileged_user() -> None:
    users = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)

    assert users == ["10001:10001"]
    assert DOCKERFILE.rindex("FROM ") < DOCKERFILE.rindex("USER ")


def test_what_the_image_copies_is_there_and_is_in_the_build_context() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        name
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for name in line.split()[:-1]
    }

    assert copied == allowed
    assert {name for name in copied if not (ROOT / name).exists()} == set()


def test_the_image_holds_every_package_of_the_distribution() -> None:
    packages = re.search(r"^packages = \[(.+)\]$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert packages is not None

    assert set(re.findall(r'"(\w+)"', packages[1])) <= set(
        re.findall(r"^COPY (\w+) \w+$", DOCKERFILE, re.MULTILINE)
    )


def test_every_service_of_ours_is_watched_and_none_by_an_ae_title() -> None:
    for name, service in OURS.items():
        assert "echoscu" not in str(service.get("healthcheck"))
        if name != "migrate":
            assert "9464/readyz" in " ".join(service["healthcheck"]["test"]), name
