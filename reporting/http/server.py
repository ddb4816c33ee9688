"""Makes the API from the settings and serves it."""

from __future__ import annotations

import json
import secrets
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType

import structlog
import uvicorn
from starlette.routing import Mount, Router

from reporting.fhir.audit import AuditLog
from reporting.fhir.database import keys as fhir_keys
from reporting.fhir.http import Api
from reporting.fhir.site import site_of
from reporting.fhir.smart import Authorizer, load_registry
from reporting.fhir.valid.definitions import publish
from reporting.fhir.write.reindex import lay_out_days
from reporting.http.border import Border, served_hosts
from reporting.http.callers import Callers
from reporting.http.doors import DoorLimits, Doors, protocol_of
from reporting.http.fhir_app import FhirApp, readiness_checks
from reporting.http.refusals import recorder
from service.audit.activity import ApplicationActivity
from service.config import LOOPBACK, Settings
from service.database.pool import open_pool, transaction
from service.errors import ConfigurationError
from service.logs import configure_logging
from service.operations.door import Facts, operations_door
from service.storage.local import open_store
from service.storage.renditions import open_renditions

log = structlog.get_logger(__name__)


def make_api(settings: Settings) -> Api:
    """Open the database and the store, and make what the handlers work with; the caller closes it."""
    site = site_of(settings)
    pool = open_pool(settings, statement_timeout_s=settings.api_statement_timeout_s)
    with transaction(pool) as connection:
        page_key = fhir_keys.get_or_make(connection, "page-links", secrets.token_bytes(32))
        token_key = fhir_keys.get_or_make(connection, "access-tokens", secrets.token_bytes(32))
        publish(connection, site)
    with open_pool(settings) as unhurried:
        lay_out_days(unhurried, site)
    return Api(
        settings=settings,
        pool=pool,
        store=open_store(settings),
        renditions=open_renditions(settings),
        site=site,
        page_key=page_key,
        audit=AuditLog(settings.database_url, site),
        authorizer=_authorizer(settings, token_key),
    )


def _authorizer(settings: Settings, token_key: bytes) -> Authorizer | None:
    if settings.fhir_auth_file is None:
        return None
    base_url = settings.fhir_base_url()
    return Authorizer(
        registry=load_registry(settings.fhir_auth_file),
        token_key=token_key,
        token_url=f"{base_url}/auth/token",
        issuer=base_url,
    )


class _Announcing(uvicorn.Server):
    """A server that says on its standard output where it listens, when it does."""

    def __init__(self, config: uvicorn.Config, url: str, stopping: threading.Event) -> None:
        super().__init__(config)
        self._url = url
        self._stopping = stopping

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End: long answers first."""
        self._stopping.set()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then announce."""
        await super().startup(sockets)
        if self.started:
            sys.stdout.write(json.dumps({"event": "listening", "url": self._url}) + "\n")
            sys.stdout.flush()


# Makes what is served below a path beside the FHIR API, and shares its database and audit.
MakeMount = Callable[[Api], Mount]


def serve(settings: Settings, beside: Sequence[MakeMount]) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are finished.

    Args:
        settings: Of the process.
        beside: What is served below paths of its own.

    Raises:
        ConfigurationError: No authorisation is configured and the address is not loopback.
    """
    if settings.api_host not in LOOPBACK and settings.fhir_auth_file is None:
        raise ConfigurationError(
            f"api_host is {settings.api_host}, but no authorisation is configured: "
            "without it the FHIR API listens on loopback only"
        )
    configure_logging(settings)
    if settings.fhir_auth_file is None:
        log.warning("fhir.loopback_only", reason="no authorisation is configured", host=settings.api_host)
    family = socket.AF_INET6 if ":" in settings.api_host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.api_host, settings.api_port))
        port = listener.getsockname()[1]
        settings = settings.model_copy(update={"api_port": port})
        api = make_api(settings)
        try:
            mounts = [make(api) for make in beside]
            app = Router(routes=mounts, default=FhirApp(api), redirect_slashes=False)
            record = recorder(api)
            callers = Callers(app, settings, is_open=api.authorizer is None, record=record)
            config = uvicorn.Config(
                Border(callers, served_hosts(settings), record=record),
                log_level="warning",
                access_log=False,
                http=protocol_of(Doors(DoorLimits())),
                loop="uvloop",
                server_header=False,
                date_header=True,
                lifespan="on",
                timeout_graceful_shutdown=30,
            )
            facts = Facts(process="api", checks=readiness_checks(settings))
            with ApplicationActivity(settings, api.pool, "api"), operations_door(settings, facts):
                _Announcing(config, settings.fhir_base_url(), api.stopping).run(sockets=[listener])
        finally:
            api.close()
