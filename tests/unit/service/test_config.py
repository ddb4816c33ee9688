"""Settings that are misspelt stop the process, and say what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.chart_settings import DOCUMENT, document
from service.config import load_settings
from service.errors import ConfigurationError

MISSPELT = {
    "SEMBLANCE_DICOM_ALLOWED_CALLING_AE_TITLE": "SEMBLANCE_DICOM_ALLOWED_CALLING_AE_TITLES",
    "SEMBLANCE_METHDO": "SEMBLANCE_METHOD",
    "SEMBLANCE_DATABASE_URI": "SEMBLANCE_DATABASE_URL",
    "SEMBLANCE_DICOM_PEER": "SEMBLANCE_DICOM_PEERS",
    "SEMBLANCE_DESTINATION__0__NAME": "SEMBLANCE_DESTINATIONS",
    "semblance_log_levle": "SEMBLANCE_LOG_LEVEL",
}


@pytest.mark.parametrize("name", MISSPELT)
def test_a_misspelt_variable_is_refused_with_the_nearest_name(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "x")
    with pytest.raises(ConfigurationError, match=f"did you mean {MISSPELT[name]}") as refused:
        load_settings()
    assert name.upper() in str(refused.value)


def test_a_misspelt_name_in_the_file_is_refused_with_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "semblance.toml"
    path.write_text('methdo = "symmetry"\n')
    monkeypatch.setenv("SEMBLANCE_CONFIG", str(path))
    with pytest.raises(ConfigurationError, match="methdo is no setting; did you mean method"):
        load_settings()


def test_every_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMBLANCE_METHDO", "x")
    monkeypatch.setenv("SEMBLANCE_DEVISE", "x")
    with pytest.raises(ConfigurationError, match=r"DEVISE.*METHDO"):
        load_settings()


@pytest.mark.parametrize(
    "url", ["nonsense", "mysql://semblance:secret@host/db", "postgresql://a:secret@h/d?colour=red"]
)
def test_a_database_url_that_is_none_is_refused_without_its_password(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEMBLANCE_DATABASE_URL", url)
    with pytest.raises(ConfigurationError, match=r"database_url: .*not a libpq URL") as refused:
        load_settings()
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("url", ["nonsense", "kafka://user:secret@host", "redis:/host"])
def test_a_broker_that_we_have_no_transport_for_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMBLANCE_BROKER_URL", url)
    with pytest.raises(ConfigurationError, match=r"broker_url: .*redis://.*amqp://") as refused:
        load_settings()
    assert "secret" not in str(refused.value)


def test_a_file_that_is_no_toml_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "semblance.toml"
    path.write_text("method = [\n")
    monkeypatch.setenv("SEMBLANCE_CONFIG", str(path))
    with pytest.raises(ConfigurationError, match=r"semblance\.toml: "):
        load_settings()


def test_what_is_right_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMBLANCE_FHIR_IDENTIFIER_SYSTEMS__HOSPITAL", "urn:oid:1.2.3")
    monkeypatch.setenv("SEMBLANCE_METHOD", "symmetry")
    settings = load_settings()
    assert settings.fhir_identifier_systems == {"hospital": "urn:oid:1.2.3"}
    assert settings.method == "symmetry"


def test_the_chart_knows_every_setting_of_today() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text == document(text), "run `make docs`"
