"""A RabbitMQ broker of a test's own: Debian's, in a directory of its own, on free ports of the loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from service.stack.stack import free_port
from tests.waiting import wait_until

_BIN = Path("/usr/lib/rabbitmq/bin")


@contextmanager
def rabbitmq() -> Iterator[str]:
    """Run a broker; yields its URL."""
    home = Path(tempfile.mkdtemp(prefix="semblance-rabbitmq-"))
    port = free_port()
    node = f"semblance-{uuid4().hex[:12]}@localhost"
    (home / "plugins").write_text("[].\n")
    (home / "rabbitmq.conf").write_text(
        f"listeners.tcp.1 = 127.0.0.1:{port}\nloopback_users = none\ndisk_free_limit.absolute = 10MB\n"
    )
    environment = {
        **os.environ,
        "HOME": str(home),
        "RABBITMQ_NODENAME": node,
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_PID_FILE": str(home / "pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
    }
    with (home / "output").open("ab") as output:
        process = subprocess.Popen(
            [str(_BIN / "rabbitmq-server")],
            env=environment,
            cwd=home,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    def answers() -> bool:
        assert process.poll() is None, (home / "output").read_text()
        status = [str(_BIN / "rabbitmqctl"), "await_startup", "--timeout", "5"]
        return subprocess.run(status, env=environment, check=False, capture_output=True).returncode == 0

    try:
        wait_until(answers, timeout_s=90, what="RabbitMQ to start", interval_s=0.5)
        yield f"amqp://guest:guest@127.0.0.1:{port}//"
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(home, ignore_errors=True)
