"""Every setting of the product, read once at the entry point and passed on as an argument.

Order of precedence: environment (``SEMBLANCE_*``, nested with ``__``), then the TOML file
named by ``SEMBLANCE_CONFIG``, then the defaults below. docs/configuration.md names every
setting; a test compares the two.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from service.errors import ConfigurationError
from service.peers import AdmittedPeer, AeTitle, Destination, LoginIssuer, Network
from service.setting_types import BrokerUrl, LibpqUrl, TimeZone

CONFIG_VARIABLE = "SEMBLANCE_CONFIG"
LOOPBACK = ("127.0.0.1", "::1", "localhost")  # hosts that only this machine reaches
_PREFIX = "SEMBLANCE_"
_TEST_PREFIX = "SEMBLANCE_TEST_"
# What is no setting and may be set: the file, and what the node's processes tell their children.
_OTHER_VARIABLES = frozenset({CONFIG_VARIABLE, "SEMBLANCE_NODE_LIFELINE", "SEMBLANCE_NODE_RATES"})


class Settings(BaseSettings):
    """The product's settings; immutable."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    # --- where state is kept
    database_url: LibpqUrl = Field(
        "postgresql://semblance@localhost/semblance", description="PostgreSQL 15 or later, as a libpq URL."
    )
    database_owner_url: LibpqUrl | None = Field(
        None, description="The same for the schema's owner, for `semblance migrate` alone; none: no owner."
    )
    database_reader: str = Field("", description="Role that the owner lets read; empty: none.")
    database_pool_size: int = Field(8, ge=1, description="Connections a process keeps at most.")
    database_timeout_s: float = Field(10.0, gt=0, description="Longest wait for a connection to PostgreSQL.")
    broker_url: BrokerUrl = Field(
        "redis://localhost:6379/0", description="Celery broker: redis:// or amqp:// (quorum queues)."
    )
    storage_dir: Path = Field(
        Path("var/store"), description="Directory of the content-addressed instance store."
    )
    storage_low_watermark_bytes: int = Field(
        1_000_000_000, ge=0, description="Free space under which photographs are refused with 0xA700."
    )

    rendition_cache_bytes: int = Field(
        1_000_000_000,
        ge=0,
        description="Most bytes of pictures made from stored objects (PNG, previews) that are kept for those"
        " who ask again; 0: none.",
    )

    # --- DICOM node
    dicom_ae_title: AeTitle = Field("SEMBLANCE", description="Our AE title, called and calling.")
    dicom_host: str = Field("0.0.0.0", description="Address the node listens on.")  # noqa: S104
    dicom_port: int = Field(
        11112, ge=0, le=65535, description="Port the node listens on; 0 picks a free one."
    )
    dicom_processes: int = Field(1, ge=1, description="Receiving processes that share the port.")
    dicom_max_associations: int = Field(
        32, ge=1, description="Associations each receiving process serves at once."
    )
    dicom_max_associations_per_address: int = Field(
        0, ge=0, description="Of these, at most so many from one address; 0: three quarters."
    )
    dicom_handshake_timeout_s: float = Field(
        10.0,
        gt=0,
        description="Time a connection has to shake hands by TLS and to request its association.",
    )
    dicom_max_pdu_bytes: int = Field(262_144, ge=4096, description="Largest PDU accepted, in bytes.")
    dicom_max_inflated_bytes: int = Field(
        500_000_000,
        ge=1_000_000,
        le=500_000_000,
        description="Bytes a deflated data set may inflate to; near those of the largest photograph.",
    )
    dicom_idle_timeout_s: float = Field(
        60.0, gt=0, description="Idle time after which an association is closed."
    )
    dicom_require_called_ae_title: bool = Field(
        False, description="Refuse associations whose called AE title is not ours."
    )
    dicom_allowed_calling_ae_titles: tuple[AeTitle, ...] = Field(
        (), description="Calling AE titles admitted; empty admits all."
    )
    dicom_admitted_peers: tuple[AdmittedPeer, ...] = Field(
        (), description="Who may call: AE title bound to network and certificate; empty admits all."
    )
    dicom_tls_certificate: Path | None = Field(
        None, description="PEM certificate chain of the node; with it the port speaks TLS 1.2 or 1.3 only."
    )
    dicom_tls_key: Path | None = Field(None, description="PEM private key of that certificate.")
    dicom_tls_authorities: Path | None = Field(
        None, description="PEM certificates that sign those of peers, which callers must then show."
    )
    dicom_users_file: Path | None = Field(
        None, description="Users who may identify themselves (user identity negotiation), and their secrets."
    )
    dicom_require_user_identity: bool = Field(
        False, description="Refuse associations that name no user of that file."
    )
    dicom_associations_per_minute: int = Field(
        0, ge=0, description="Associations a caller may begin a minute; 0: any number."
    )
    dicom_objects_per_minute: int = Field(
        0, ge=0, description="Objects a caller may send a minute; 0: any number."
    )
    dicom_max_waiting: int = Field(
        100_000, ge=0, description="Photographs waiting for appraisal above which more get 0xA700; 0: any."
    )
    dicom_peers: tuple[Destination, ...] = Field(
        (), description="Nodes to call beside the destinations: commitment reports and C-MOVE go there."
    )
    dicom_query_ae_titles: tuple[AeTitle, ...] = Field(
        (),
        description="AE titles that may query and retrieve; empty: those that the settings above and the"
        " destinations name. Others may not, also where all may send.",
    )
    destinations: tuple[Destination, ...] = Field(
        (), description="Where results are sent, by C-STORE or STOW-RS."
    )

    # --- HL7 version 2
    hl7_host: str = Field("127.0.0.1", description="Address the HL7 listener (MLLP) listens on.")
    hl7_port: int = Field(2575, ge=0, le=65535, description="Port of the HL7 listener; 0 picks a free one.")
    hl7_networks: tuple[Network, ...] = Field(
        (),
        description="Addresses or networks that may send HL7 messages, as 10.1.0.0/16; empty: this machine.",
    )

    # --- delivery and retry
    delivery_timeout_s: float = Field(30.0, gt=0, description="Time-out of one delivery's network steps.")
    retry_base_s: float = Field(2.0, gt=0, description="First retry delay; doubles with each attempt.")
    retry_cap_s: float = Field(600.0, gt=0, description="Longest retry delay.")
    step_max_attempts: int = Field(5, ge=1, description="Attempts at a pipeline step before it is dead.")
    delivery_max_attempts: int = Field(100, ge=1, description="Attempts at a delivery before it is dead.")
    breaker_failures: int = Field(
        5, ge=1, description="Failures in a row after which a destination is left alone for a while."
    )
    breaker_pause_s: float = Field(
        30.0, gt=0, description="First such while; doubles with each probe that fails, up to retry_cap_s."
    )
    study_quiet_s: float = Field(
        60.0, gt=0, description="Time without a new photograph after which a study counts as whole."
    )
    sweep_interval_s: float = Field(
        5.0, gt=0, description="Pause between sweeps of the outbox and of stalled work."
    )
    step_timeout_s: float = Field(
        120.0,
        gt=0,
        description="Longest time of one attempt at a step; what takes longer frees its place and is tried"
        " once more. Less than stall_after_s.",
    )
    stall_after_s: float = Field(
        300.0, gt=0, description="Time without progress after which work is enqueued again."
    )

    # --- appraisal
    method: str = Field(
        "default",
        description="Key in METHODS: the method new photographs are appraised by. symmetry, which needs no "
        "weights, is near chance on real clefts and palsies (AUROC .57), of most of which it still says 7.0.",
    )
    appraise_derived_from: tuple[str, ...] = Field(
        (),
        description="Calling AE titles (* for all) whose derived pictures are appraised like photographs: "
        "Secondary Captures of ImageType DERIVED, with text or overlays in them. Results of ours never are.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where forward passes run.")
    model_dir: Path | None = Field(
        None,
        description="Directory or mirror of model files not shipped with us, or of a site's in their place.",
    )

    appraisal_threads: int = Field(
        2, ge=1, le=64, description="Photographs that a worker of queue gpu appraises at once."
    )
    appraisal_batch: int = Field(
        0, ge=0, le=256, description="Faces in one forward pass; 0: 16 on a GPU, 1 on a CPU."
    )
    appraisal_batch_wait_ms: float = Field(
        5.0, ge=0, description="Longest wait of a face for others to share its forward pass."
    )
    appraisal_memory_bytes: int = Field(
        2_000_000_000,
        gt=0,
        description="Memory that photographs being appraised may take together; a larger one is alone.",
    )

    # --- FHIR API
    api_host: str = Field("127.0.0.1", description="Address the FHIR API listens on.")
    api_port: int = Field(8080, ge=0, le=65535, description="Port of the FHIR API; 0 picks a free one.")
    api_base_url: str = Field(
        "", description="Base URL the API is reached under; empty: http://<api_host>:<api_port>/fhir."
    )
    api_trusted_proxies: tuple[Network, ...] = Field(
        (),
        description="Addresses or networks of proxies whose X-Forwarded-Host, -Proto and -Prefix are"
        " believed, as 10.1.0.0/16; not needed where api_base_url is set.",
    )
    api_statement_timeout_s: float = Field(
        20.0, gt=0, description="Longest time a statement of the FHIR API may take in PostgreSQL."
    )
    api_request_timeout_s: float = Field(
        60.0, gt=0, description="A request to the FHIR API begins no further statement after so long."
    )
    fhir_allowed_origins: tuple[str, ...] = Field(
        (), description="Origins of web applications that may use the FHIR API from a browser (CORS)."
    )
    dicomweb_url: str = Field(
        "",
        description="Base URL of the DICOMweb service FHIR links to; empty: ours, if api_base_url is set.",
    )
    dicomweb_allowed_origins: tuple[str, ...] = Field(
        (), description="Origins of web viewers that may use our DICOMweb service from a browser (CORS)."
    )
    fhir_auth_file: Path | None = Field(
        None,
        description="TOML file of SMART clients and trusted issuers; without it the API is on loopback only.",
    )
    fhir_identifier_systems: dict[str, str] = Field(
        default_factory=dict,
        description="FHIR identifier system of patient IDs by Issuer of Patient ID, as the EHR names them.",
    )

    fhir_ehr_base_urls: dict[str, str] = Field(
        default_factory=dict,
        description="FHIR base URLs of the EHR, each with the identifier system its ids are in, or an "
        "empty one where its resources have the same ids here. References below them are understood.",
    )

    # --- operations
    operations_host: str = Field(
        "127.0.0.1", description="Address of the door for metrics and probes of each process."
    )
    operations_port: int = Field(
        0, ge=0, le=65535, description="Port of that door (/metrics, /healthz, /readyz); 0: closed."
    )

    # --- dashboard
    web_enabled: bool = Field(True, description="Whether the dashboard is served, at /ui.")
    web_login: Literal["none", "passcode", "oidc"] = Field(
        "none",
        description="How people log in to the dashboard: by passcode (`semblance users`), or by an issuer of"
        " OpenID Connect; none: it is for this machine alone, and says so.",
    )
    web_oidc: LoginIssuer | None = Field(
        None, description="That issuer: issuer, client_id, client_secret_file, scope, roles_claim, roles."
    )
    web_session_idle_s: float = Field(
        900.0, gt=0, description="Time without a page after which a session of the dashboard ends."
    )
    web_session_s: float = Field(36_000.0, gt=0, description="Time after its login at which it ends.")

    # --- audit messages (DICOM PS3.15 annex A.5)
    audit_syslog_host: str = Field(
        "", description="Syslog server that audit messages are sent to by TLS (RFC 5425); empty: none."
    )
    audit_syslog_port: int = Field(6514, ge=1, le=65535, description="Its port.")
    audit_syslog_authorities: Path | None = Field(
        None, description="PEM certificates that sign its certificate; none: those of this machine."
    )
    audit_syslog_certificate: Path | None = Field(
        None, description="PEM certificate chain shown to the syslog server."
    )
    audit_syslog_key: Path | None = Field(None, description="PEM private key of that certificate.")
    audit_key_file: Path | None = Field(
        None, description="Key that signs checkpoints of the chain, made by `semblance audit keys make`."
    )
    audit_checkpoint_dir: Path | None = Field(
        None, description="Directory for signed checkpoints; best where the database's owner cannot write."
    )
    audit_checkpoint_bucket: str = Field(
        "", description="Bucket with Object Lock for signed checkpoints, as s3://bucket/prefix; empty: none."
    )
    audit_checkpoint_endpoint: str = Field(
        "", description="URL of an S3 that is not Amazon's; empty: Amazon's."
    )
    audit_checkpoint_retention_days: int = Field(
        3650, ge=1, description="Days a checkpoint in that bucket is locked."
    )
    audit_checkpoint_interval_s: float = Field(
        3600.0, gt=0, description="Pause between checkpoints; none is made where nothing was sealed."
    )
    audit_source_id: str = Field(
        "", description="AuditSourceID of audit messages; empty: the node's AE title."
    )
    audit_enterprise_site_id: str = Field(
        "", description="AuditEnterpriseSiteID of audit messages; empty leaves it out."
    )

    fhir_subscription_endpoints: tuple[str, ...] = Field(
        (),
        description="URLs that Subscriptions may notify, each with everything below it, as "
        "https://ehr.hospital.example/hooks; empty: no Subscription is taken.",
    )
    fhir_notification_max_attempts: int = Field(
        10, ge=1, description="Attempts at a notification before its Subscription is in error."
    )
    fhir_notification_keep_days: float = Field(
        30.0,
        gt=0,
        description="Days that a notification which was received is remembered; what was given up is kept.",
    )

    # --- identity and logs
    organisation: str = Field("Semblance", description="Institution name written into result objects.")
    timezone: TimeZone = Field(
        "",
        description="IANA zone of times sent without (0008,0201), as Europe/Berlin; empty: this machine's.",
    )
    structured_report: bool = Field(True, description="Whether a DICOM structured report (TID 1500) is made.")
    picture: Literal["heatmap", "triptych"] = Field(
        "heatmap",
        description="What Secondary Capture and Media show: the photograph with its heatmap, or face, normal"
        " counterpart and heatmap side by side.",
    )
    picture_long_side_px: int = Field(
        2048, ge=256, le=8192, description="Most pixels of that picture's longer side, legend and all."
    )
    picture_jpeg_quality: int = Field(
        90, ge=50, le=100, description="JPEG quality of that picture, on libjpeg's scale."
    )
    parametric_map: bool = Field(
        False, description="Whether the raw difference map is made as a DICOM Parametric Map."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least level logged.")
    log_format: Literal["json", "console"] = Field("json", description="Shape of log lines.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then environment, then the TOML file; no dotenv, no secrets directory."""
        path = os.environ.get(CONFIG_VARIABLE)
        toml = TomlConfigSettingsSource(settings_cls, Path(path)) if path else None
        return (init_settings, env_settings) + ((toml,) if toml else ())

    def fhir_base_url(self) -> str:
        """Base URL written into FHIR links, without a trailing slash."""
        host = "127.0.0.1" if self.api_host in ("0.0.0.0", "::", "") else self.api_host  # noqa: S104
        host = f"[{host}]" if ":" in host else host
        return (self.api_base_url or f"http://{host}:{self.api_port}/fhir").rstrip("/")

    def dicomweb_base_url(self) -> str:
        """Base URL of the DICOMweb service that FHIR links to: the archive's, else ours; "" if not known."""
        if self.dicomweb_url or not self.api_base_url:
            return self.dicomweb_url.rstrip("/")
        return self.api_base_url.rstrip("/").removesuffix("/fhir") + "/dicom-web"


def _refuse_unknown(environment: Mapping[str, str]) -> None:
    """Refuse a variable that looks like a setting and is none: it would be passed over in silence.

    Raises:
        ConfigurationError: With the nearest names.
    """
    known = {_PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(
        name
        for name in map(str.upper, environment)
        if name.startswith(_PREFIX)
        and name.partition("__")[0] not in known
        and name not in _OTHER_VARIABLES
        and not name.startswith(_TEST_PREFIX)
    )
    if unknown:
        raise ConfigurationError(
            "; ".join(f"{name} is no setting{_nearest(name, known)}" for name in unknown)
        )


def _nearest(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {found[0]}?" if found else ""


def load_settings(**overrides: object) -> Settings:
    """Read the settings once.

    Args:
        overrides: Settings that win over environment and file (from command-line options).

    Raises:
        ConfigurationError: A file that is missing, or a value that is wrong, with its name.
    """
    path = os.environ.get(CONFIG_VARIABLE)
    if path and not Path(path).is_file():
        raise ConfigurationError(f"{CONFIG_VARIABLE} names {path!r}, which is not a file")
    _refuse_unknown(os.environ)
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as exc:
        faults = "; ".join(_fault(error["loc"], error["type"], error["msg"]) for error in exc.errors())
        raise ConfigurationError(f"settings: {faults}") from exc
    except tomllib.TOMLDecodeError as exc:
        raise ConfigurationError(f"settings: {path}: {exc}") from exc
    except (ValueError, OSError) as exc:
        raise ConfigurationError(f"settings: {exc}") from exc


def _fault(place: tuple[str | int, ...], kind: str, message: str) -> str:
    """One fault of a setting in words; a name of the file that is none, with the nearest."""
    name = ".".join(map(str, place))
    if kind == "extra_forbidden" and len(place) == 1:
        return f"{name} is no setting{_nearest(name, Settings.model_fields)}"
    return f"{name}: {message}"
