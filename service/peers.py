"""Nodes we talk with, as the settings describe them: where results go, and who may call."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def _ae_title(value: str) -> str:
    """AE: at most 16 printable ASCII characters, no backslash, not blank (PS3.5 section 6.2)."""
    if not 1 <= len(value.strip()) <= 16 or not value.isascii() or not value.isprintable() or "\\" in value:
        raise ValueError("an AE title has 1 to 16 printable ASCII characters and no backslash")
    return value.strip()


AeTitle = Annotated[str, AfterValidator(_ae_title)]


def _network(value: str) -> str:
    """An IP address or network, as ipaddress reads it."""
    return str(ipaddress.ip_network(value))


Network = Annotated[str, AfterValidator(_network)]


class Route(BaseModel):
    """Which results a destination gets: those that meet every condition given here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    calling_ae_titles: tuple[AeTitle, ...] = Field((), description="Who sent the photograph; empty: anybody.")
    modalities: tuple[str, ...] = Field((), description="Modality (0008,0060) of the photograph; empty: any.")
    body_parts: tuple[str, ...] = Field(
        (), description="Body Part Examined (0018,0015) of the photograph; empty: any."
    )
    study_description: str = Field(
        "", description="Pattern of Study Description, as *cleft*, whatever the case; empty: any."
    )
    statuses: tuple[Literal["appraised", "rejected"], ...] = Field(
        (), description="Whether the photograph could be judged; empty: either."
    )
    results: tuple[Literal["secondary-capture", "structured-report", "parametric-map"], ...] = Field(
        (), description="Which result objects; empty: all."
    )
    rating_from: float | None = Field(None, description="Least rating, 1 to 7; a rejected one has none.")
    rating_to: float | None = Field(None, description="Greatest rating, 1 to 7; a rejected one has none.")
    score_from: float | None = Field(None, description="Least score s(D); a rejected one has none.")
    score_to: float | None = Field(None, description="Greatest score s(D); a rejected one has none.")


# Into what results can be recoded: losslessly, or not at all.
_LOSSLESS_TRANSFER_SYNTAXES = {
    "1.2.840.10008.1.2.1": "Explicit VR Little Endian",
    "1.2.840.10008.1.2": "Implicit VR Little Endian",
    "1.2.840.10008.1.2.5": "RLE Lossless",
    "1.2.840.10008.1.2.4.80": "JPEG-LS Lossless",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 Lossless",
}


def _lossless(value: str) -> str:
    """Refuse a transfer syntax that would lose something, or that nobody here can write."""
    if value not in _LOSSLESS_TRANSFER_SYNTAXES:
        names = ", ".join(f"{uid} ({name})" for uid, name in _LOSSLESS_TRANSFER_SYNTAXES.items())
        raise ValueError(f"results are recoded without loss only: one of {names}")
    return value


class Destination(BaseModel):
    """A DICOM node or DICOMweb server results are sent to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="Name in the delivery table and in logs.")
    kind: Literal["dicom", "dicomweb"] = Field(
        "dicom", description="By C-STORE to `ae_title`, `host`, `port`, or by STOW-RS to `url`."
    )
    ae_title: AeTitle | Literal[""] = Field("", description="Called AE title.")
    host: str = Field("", description="Host name or address.")
    port: int = Field(0, ge=0, le=65535, description="TCP port.")
    url: str = Field("", description="Base URL of the DICOMweb service, as https://pacs.example/dicom-web.")
    token_file: Path | None = Field(
        None, description="File with the bearer token for the DICOMweb service; read for each delivery."
    )
    tls: bool = Field(False, description="Connect by TLS, and verify its certificate and host name.")
    storage_commitment: bool = Field(
        False, description="Ask it to commit to what it took, and send again what it does not commit to."
    )
    routes: tuple[Route, ...] = Field(
        (), description="Which results it gets: those that any of these takes; empty: all."
    )
    max_associations: int = Field(2, ge=1, description="Objects sent to it at once, by all workers together.")
    transfer_syntaxes: tuple[Annotated[str, AfterValidator(_lossless)], ...] = Field(
        (), description="UIDs of lossless transfer syntaxes to send in, best first; empty: as made."
    )
    lossless: bool = Field(
        False,
        description="Send it the picture without loss, as a Secondary Capture of its own, not as JPEG.",
    )
    strip_location: bool = Field(
        False, description="Blank the place of taking (EXIF and XMP GPS) in JPEG frames sent to it."
    )

    @model_validator(mode="after")
    def _has_an_address(self) -> Self:
        """Each kind needs its own address."""
        if self.kind == "dicom" and not (self.ae_title and self.host and self.port):
            raise ValueError(f"destination {self.name!r} needs ae_title, host and port")
        if self.kind == "dicomweb" and urlsplit(self.url).scheme not in ("http", "https"):
            raise ValueError(f"destination {self.name!r} needs an http or https url")
        return self


class AdmittedPeer(BaseModel):
    """A node that may call us."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ae_title: AeTitle = Field(description="Calling AE title.")
    networks: tuple[Network, ...] = Field(
        (), description="Addresses or networks it calls from, as 10.1.0.0/16; empty: any."
    )
    certificate_name: str = Field(
        "", description="Common name or DNS name its TLS certificate must hold; empty: any."
    )


class LoginIssuer(BaseModel):
    """An issuer of OpenID Connect that people log in to the dashboard by."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: str = Field(description="As its own metadata name it; an https URL.")
    client_id: str = Field(min_length=1, description="Ours there; it sends back to /ui/oidc/back.")
    client_secret_file: Path | None = Field(
        None, description="File of the client's secret; none: a public client, with PKCE alone."
    )
    scope: str = Field("openid profile", description="That is asked for.")
    roles_claim: str = Field(
        "roles", description="Claim of the ID token that names roles; a.b is b within a."
    )
    roles: dict[str, str] = Field(min_length=1, description="Role here by what that claim says there.")
