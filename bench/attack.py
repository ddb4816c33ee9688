"""What an honest sender and reader notice of attacks that need no password, against a stack that runs.

    semblance up --data-dir /tmp/attacked --dicom-port 11112 --api-port 8080
    python -m bench.attack --dicom-port 11112 --api-port 8080

Honest callers come from 127.0.0.2, the attacker from 127.0.0.3. Each line has the latencies of honest C-ECHOs
on associations of their own, and of /healthz, in milliseconds, and how many failed. The last lines are the
memory of the stack's processes before and after, in MB.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Sequence

import httpx
import numpy as np
import psutil
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

HONEST, HOSTILE = "127.0.0.2", "127.0.0.3"
TIMEOUT_S = 20.0


def associate(port: int, address: str) -> Association:
    """A new association for C-ECHO."""
    ae = AE(ae_title="BENCH")
    ae.add_requested_context(Verification)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = TIMEOUT_S
    return ae.associate("127.0.0.1", port, ae_title="SEMBLANCE", bind_address=(address, 0))


def echo(port: int) -> bool:
    """Whether an honest C-ECHO is answered."""
    association = associate(port, HONEST)
    if not association.is_established:
        return False
    status = association.send_c_echo()
    association.release()
    return "Status" in status and status.Status == 0


def health(port: int) -> bool:
    """Whether the API says that it is well."""
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=TIMEOUT_S).status_code == 200
    return False


@contextlib.contextmanager
def connections(port: int, count: int, first: bytes = b"") -> Iterator[None]:
    """Hold connections open, each with its first bytes sent."""
    held: list[socket.socket] = []
    try:
        for _ in range(count):
            with contextlib.suppress(OSError):
                sock = socket.create_connection(("127.0.0.1", port), TIMEOUT_S, source_address=(HOSTILE, 0))
                held.append(sock)
                sock.settimeout(0.2)
                sock.sendall(first)
        yield
    finally:
        for sock in held:
            sock.close()


@contextlib.contextmanager
def idle_associations(port: int, count: int) -> Iterator[None]:
    """Hold associations open that say nothing."""
    held = [associate(port, HOSTILE) for _ in range(count)]
    try:
        yield
    finally:
        for each in held:
            each.abort()


def attacks(
    dicom_port: int, api_port: int
) -> dict[str, Callable[[], contextlib.AbstractContextManager[None]]]:
    """Name -> the attack, while it is held."""
    head = f"POST /fhir/Patient HTTP/1.1\r\nHost: 127.0.0.1:{api_port}\r\nContent-Length: {16 << 20}\r\n\r\n"
    body = head.encode() + b" " * (1 << 20)
    return {
        "none": contextlib.nullcontext,
        "200 silent connections to the node": lambda: connections(dicom_port, 200),
        "64 idle associations": lambda: idle_associations(dicom_port, 64),
        "120 unfinished bodies of 16 MB": lambda: connections(api_port, 120, body),
        "200 heads that never end": lambda: connections(api_port, 200, b"GET /fhir/metadata HTTP/1.1\r\nA: "),
    }


def measured(ask: Callable[[], bool], rounds: int) -> tuple[list[float], int]:
    """Milliseconds of the requests that were answered, and how many were not."""
    took, failed = [], 0
    for _ in range(rounds):
        begun = time.perf_counter()
        if ask():
            took.append(1000 * (time.perf_counter() - begun))
        else:
            failed += 1
    return took, failed


def told(name: str, took: Sequence[float], failed: int) -> str:
    """Median and largest, in words."""
    if not took:
        return f"{name} all {failed} failed"
    return f"{name} median {np.median(took):.0f} largest {max(took):.0f} failed {failed}"


def memory(ports: Sequence[int]) -> dict[str, float]:
    """MB of the processes that listen, by what they are."""
    found = {}
    for connection in psutil.net_connections("tcp"):
        port = connection.laddr[1] if connection.laddr else 0
        if connection.status == psutil.CONN_LISTEN and port in ports and connection.pid:
            found[str(port)] = psutil.Process(connection.pid).memory_info().rss / 1e6
    return found


def main() -> int:
    """Run; 1 when an honest caller failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dicom-port", type=int, default=11112)
    parser.add_argument("--api-port", type=int, default=8080)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    ports = (options.dicom_port, options.api_port)
    lost = 0
    before = memory(ports)
    for name, attack in attacks(*ports).items():
        with attack():
            echoes, failed_echoes = measured(lambda: echo(options.dicom_port), options.rounds)
            healths, failed_healths = measured(lambda: health(options.api_port), options.rounds)
        lost += failed_echoes + failed_healths
        print(f"{name}: {told('echo', echoes, failed_echoes)}; {told('healthz', healths, failed_healths)}")
    for port, size in memory(ports).items():
        print(f"port {port}: {before.get(port, 0.0):.0f} MB before, {size:.0f} MB after")
    return 1 if lost else 0


if __name__ == "__main__":
    raise SystemExit(main())
