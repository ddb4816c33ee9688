"""A TCP proxy that cuts connections after so many bytes, as a network that fails does."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Where a connection is cut; None never."""

    after_sent: int | None = None  # bytes from the client to the server
    after_answered: int | None = None  # bytes from the server to the client
    is_reset: bool = True  # by RST; else by an orderly end


class CuttingProxy:
    """Forwards to a port of this machine; each new connection asks where it is to be cut."""

    def __init__(self, to_port: int, cut: Callable[[], Cut]) -> None:
        """Nothing listens before it is entered."""
        self._to_port = to_port
        self._cut = cut
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self.port = 0
        self.cuts = 0
        self.sent = self.answered = 0  # bytes of the newest connection, each way

    def __enter__(self) -> Self:
        """Listen on a free port."""
        self._thread.start()
        serving = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop
        )
        self._server = serving.result(10)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop, and end what is left."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        others = [each for each in asyncio.all_tasks() if each is not asyncio.current_task()]
        for each in others:
            each.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        cut = self._cut()
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
        self.sent = self.answered = 0

        def count_sent(size: int) -> None:
            self.sent += size

        def count_answered(size: int) -> None:
            self.answered += size

        ways = {
            asyncio.ensure_future(self._pump(reader, to_writer, cut.after_sent, count_sent)),
            asyncio.ensure_future(self._pump(to_reader, writer, cut.after_answered, count_answered)),
        }
        done, pending = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        was_cut = any(way.result() for way in done)
        if not was_cut:  # one side ended: the other may still have something to say
            done, pending = await asyncio.wait(ways, timeout=30)
        for way in pending:
            way.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        self.cuts += was_cut
        for each in (writer, to_writer):
            sock = each.get_extra_info("socket")
            if was_cut and cut.is_reset and sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            each.close()

    @staticmethod
    async def _pump(
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        budget: int | None,
        count: Callable[[int], None],
    ) -> bool:
        """Forward until an end or the budget is spent; whether it was spent."""
        left = budget
        try:
            while data := await reader.read(65536):
                part = data if left is None else data[:left]
                writer.write(part)
                await writer.drain()
                count(len(part))
                if left is not None:
                    left -= len(part)
                    if left <= 0:
                        return True
            writer.write_eof()
        except OSError:
            pass
        return False
