"""Runs an aiohttp application on a free port of loopback, from a thread of its own."""

import asyncio
import hashlib
import threading
from contextlib import contextmanager

from aiohttp import web


@contextmanager
def running_application(**routes):
    """Serve handlers while the context lasts; gives the URL. A keyword such as GET has pairs of path and handler."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start():
        application = web.Application()
        for method, pairs in routes.items():
            for path, handler in pairs:
                application.router.add_route(method, path, handler)
        # a handler that hangs on purpose is not waited for
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    runner = asyncio.run_coroutine_threadsafe(start(), loop).result()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def ranged(request, data):
    """Answer `data`, or the range of it that is asked for, with an entity tag."""
    headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
    wanted = request.http_range
    if wanted.start is None:
        return web.Response(body=data, headers=headers)
    part = data[wanted.start : wanted.stop]
    headers["Content-Range"] = f"bytes {wanted.start}-{wanted.start + len(part) - 1}/{len(data)}"
    return web.Response(status=206, body=part, headers=headers)
