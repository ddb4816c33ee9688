"""The MLLP listener: one message after the other, acknowledged when what it says is committed.

MLLP knows neither who calls nor encryption: it listens on this machine alone unless networks are named.
"""

from __future__ import annotations

import asyncio
import ipaddress
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import uuid4

import structlog
from hl7.mllp import HL7StreamReader, HL7StreamWriter, start_hl7_server
from hl7.mllp.exceptions import InvalidBlockError

from reporting.fhir.site import site_of
from reporting.hl7 import adt
from reporting.hl7.apply import apply
from service.config import Settings
from service.database.pool import Pool, in_transaction
from service.errors import AnnouncementError, ConfigurationError, DatabaseUnavailableError, SemblanceError

_log = structlog.get_logger(__name__)

_MOST_BYTES = 1 << 20  # of a message
_MOST_CONNECTIONS = 32
_IDLE_S = 600.0
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Listener:
    """Serves MLLP.

    Args:
        settings: Uses ``hl7_host``, ``hl7_port``, ``hl7_networks`` and ``fhir_identifier_systems``.
        pool: Of this process.

    Raises:
        ConfigurationError: It would listen beyond this machine to anybody.
    """

    def __init__(self, settings: Settings, pool: Pool) -> None:
        if settings.hl7_host not in _LOOPBACK and not settings.hl7_networks:
            raise ConfigurationError("hl7_networks: name who may send, or let hl7_host be 127.0.0.1")
        self._settings = settings
        self._pool = pool
        self._site = site_of(settings)
        self._networks = [ipaddress.ip_network(each) for each in settings.hl7_networks]
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="hl7")  # in the order they come
        self._open: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Begin to listen; answers the port."""
        self._server = await start_hl7_server(
            self._connected, self._settings.hl7_host, self._settings.hl7_port, limit=_MOST_BYTES
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """End: what is under way is committed and acknowledged, what waits is not begun."""
        if self._server is not None:
            self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        self._worker.shutdown(wait=True)

    async def _connected(self, reader: HL7StreamReader, writer: HL7StreamWriter) -> None:
        task = asyncio.current_task()
        address = str((writer.get_extra_info("peername") or ("",))[0])
        if not self._admits(address) or len(self._open) >= _MOST_CONNECTIONS:
            _log.warning("hl7-refused", peer_address=address, connections=len(self._open))
            writer.close()
            return
        if task is not None:
            self._open.add(task)
        try:
            await self._serve(reader, writer, address)
        except (TimeoutError, ValueError, InvalidBlockError, asyncio.IncompleteReadError, OSError) as exc:
            _log.info("hl7-connection-ended", peer_address=address, reason=type(exc).__name__)
        finally:
            if task is not None:
                self._open.discard(task)
            writer.close()

    async def _serve(self, reader: HL7StreamReader, writer: HL7StreamWriter, address: str) -> None:
        loop = asyncio.get_running_loop()
        while True:
            data = await asyncio.wait_for(reader.readblock(), _IDLE_S)
            answered = loop.run_in_executor(self._worker, self.answer, data, address)
            writer.writeblock(await asyncio.shield(answered))
            await writer.drain()

    def _admits(self, address: str) -> bool:
        try:
            caller = ipaddress.ip_address(address)
        except ValueError:
            return False
        return not self._networks or any(caller in network for network in self._networks)

    def answer(self, data: bytes, address: str = "") -> bytes:
        """Do what a message says; answers the acknowledgement, AA only after the commit.

        Args:
            data: Of one MLLP block.
            address: Of the sender, for the log.
        """
        try:
            said = adt.read(adt.decoded(data), self._settings.fhir_identifier_systems)
            patients = in_transaction(self._pool, lambda connection: apply(connection, said, self._site))
        except DatabaseUnavailableError:
            reason = "the database cannot be reached; send it again"
        except AnnouncementError as exc:
            reason = str(exc)
        except SemblanceError as exc:
            reason = f"cannot be taken: {type(exc).__name__}"
        except Exception:  # noqa: BLE001 -- the MLLP handler answers whatever happens: nothing was committed
            _log.exception("hl7-failed", peer_address=address)
            reason = "cannot be taken; the log says why"
        else:
            _log.info("hl7-applied", trigger=said.event.value, control_id=said.control_id, patients=patients)
            return acknowledgement(data, "AA", "")
        _log.warning("hl7-refused", peer_address=address, reason=reason)
        return acknowledgement(data, "AE", reason)


def acknowledgement(data: bytes, code: str, reason: str) -> bytes:
    """An ACK (HL7 section 2.9.2) of a message, however little of it can be read.

    Args:
        data: The message.
        code: AA or AE.
        reason: In words, for MSA-3; "" for none.
    """
    separator = data[3:4] or b"|"
    fields = data.split(b"\r", 1)[0].split(separator)
    fields += [b""] * (12 - len(fields))
    encoding = fields[1] if fields[0] == b"MSH" and len(fields[1]) >= 4 else b"^~\\&"
    if fields[0] != b"MSH":
        separator, fields = b"|", [b""] * 12
    event = [*fields[8].split(encoding[:1]), b""][1]
    now = datetime.now(UTC).strftime("%Y%m%d%H%M%S").encode()
    header = (
        b"MSH", encoding, fields[4], fields[5], fields[2], fields[3], now, b"",
        encoding[:1].join(part for part in (b"ACK", event) if part),
        uuid4().hex[:20].encode(), fields[10] or b"P", fields[11] or b"2.5",
    )  # fmt: skip
    said = "".join(
        c for c in reason if c.isascii() and c.isprintable() and c.encode() not in separator + encoding
    )
    msa = [b"MSA", code.encode(), fields[9]] + ([said[:200].encode()] if said else [])
    return separator.join(header) + b"\r" + separator.join(msa) + b"\r"
