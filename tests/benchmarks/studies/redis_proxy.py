"""Passes connections on to a Redis: late, slowly, or cut off at every request.

python -m tests.benchmarks.studies.redis_proxy PORT TARGET [--delay MS] [--rate BYTES] [--cut]
"""

from __future__ import annotations

import argparse
import asyncio
from contextlib import suppress

import uvloop

_PIECE = 2**16


async def _pass(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float, rate: float
) -> None:
    """Write all that is read: each piece `delay` seconds after it came, at `rate` bytes a second."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def write() -> None:
        while True:
            due, piece = await pieces.get()
            await asyncio.sleep(max(due - loop.time(), 0))
            if rate:
                await asyncio.sleep(len(piece) / rate)
            writer.write(piece)
            if not piece:
                writer.close()
                return
            await writer.drain()

    writing = asyncio.ensure_future(write())
    try:
        piece = b"-"
        while piece:
            piece = await reader.read(_PIECE)
            pieces.put_nowait((loop.time() + delay, piece))
        await writing
    except OSError:
        writer.close()
    finally:
        writing.cancel()


async def serve(port: int, target: int, *, delay: float, rate: float, cut: bool) -> None:
    """Serve until the process is ended; answers are late and slow, requests are not."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if cut:
            await reader.read(_PIECE)
            writer.close()
            return
        answers, requests = await asyncio.open_connection("127.0.0.1", target)
        with suppress(OSError):
            await asyncio.gather(_pass(reader, requests, 0, 0), _pass(answers, writer, delay, rate))

    server = await asyncio.start_server(connected, "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("port", type=int)
    parser.add_argument("target", type=int)
    parser.add_argument("--delay", type=float, default=0, help="milliseconds before each answer")
    parser.add_argument("--rate", type=float, default=0, help="bytes a second of answers")
    parser.add_argument("--cut", action="store_true", help="end the connection at the first request")
    parsed = parser.parse_args()
    uvloop.run(serve(parsed.port, parsed.target, delay=parsed.delay / 1000, rate=parsed.rate, cut=parsed.cut))


if __name__ == "__main__":
    main()
