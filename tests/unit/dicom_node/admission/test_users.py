from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicom_node.admission.users import Users, digest_of, matches
from service.commands.main import app
from service.errors import ConfigurationError


def test_a_passcode_matches_its_own_digest_alone() -> None:
    digest = digest_of(b"correct horse")
    assert matches(b"correct horse", digest)
    assert not matches(b"correct horsf", digest)
    assert not matches(b"", digest)
    assert not matches(b"x" * 2000, digest)
    assert "horse" not in digest
    assert digest_of(b"correct horse") != digest


@pytest.mark.parametrize(
    "digest", ["plain", "scrypt$x$8$1$AA==$AA==", "scrypt$16384$8$1$AA==$", "md5$1$1$1$AA==$AA==",
               "scrypt$16384$8$1$A$AA==", "scrypt$1073741824$8$1$AA==$AA=="],
)  # fmt: skip
def test_what_is_no_digest_of_ours_is_refused(digest: str) -> None:
    with pytest.raises(ConfigurationError):
        matches(b"x", digest)


def test_users_are_who_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text(f"# cameras\ncamera1:{digest_of(b'secret')}\n\ngateway:\n")
    users = Users(path)
    assert users.admits("camera1", b"secret")
    assert not users.admits("camera1", b"wrong")
    assert not users.admits("camera1", None)
    assert users.admits("gateway", None)
    assert not users.admits("gateway", b"anything")
    assert not users.admits("nobody", b"secret")
    assert not users.admits("nobody", None)


@pytest.mark.parametrize("line", ["no separator", ":x", "camera1:\ncamera1:", "camera1:plain"])
def test_a_wrong_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "users"
    path.write_text(line)
    with pytest.raises(ConfigurationError, match="users"):
        Users(path)


def test_a_file_that_is_not_there_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        Users(tmp_path / "none")


def test_a_changed_file_counts_and_a_broken_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text("gateway:\n")
    users = Users(path)
    replacement = tmp_path / "new"
    replacement.write_text("other:\n")
    os.replace(replacement, path)
    assert users.admits("other", None)
    assert not users.admits("gateway", None)
    replacement.write_text("half a li")
    os.replace(replacement, path)
    assert users.admits("other", None)


def test_the_command_makes_a_line_of_the_file(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["passcode", "camera1"], input="secret\n")
    named = CliRunner().invoke(app, ["passcode", "gateway", "--name-only"])
    assert done.exit_code == named.exit_code == 0
    path = tmp_path / "users"
    path.write_text(done.output + named.output)
    users = Users(path)
    assert users.admits("camera1", b"secret")
    assert users.admits("gateway", None)


@pytest.mark.parametrize(("name", "typed"), [("a:b", "secret\n"), ("camera1", "\n"), ("", "secret\n")])
def test_the_command_refuses_what_the_file_cannot_hold(name: str, typed: str) -> None:
    assert CliRunner().invoke(app, ["passcode", name], input=typed).exit_code == 2
