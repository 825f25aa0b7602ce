"""Runs coroutines side by side where the first failure ends them all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

Result = TypeVar("Result")


async def run_all(
    coroutines: Iterable[Coroutine[Any, Any, Result]],
    *,
    in_flight: int,
    report: Callable[[int, int], None] | None = None,
) -> list[Result]:
    """Return the results of `coroutines`, of which at most `in_flight` run at a time.

    `report` is told after each one how many are done, of how many. The first error cancels the
    others and is raised as it is.
    """
    slots = asyncio.Semaphore(in_flight)
    done = 0

    async def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
        nonlocal done
        async with slots:
            result = await coroutine
        done += 1
        if report is not None:
            report(done, len(tasks))
        return result

    tasks = [asyncio.ensure_future(run(coroutine)) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def all_of(coroutines: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all of `coroutines` at once; the first error cancels the others and is raised as it is."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        if len(tasks) == 1:
            await tasks[0]
        else:
            await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
