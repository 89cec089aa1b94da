"""Background tasks with an owner: started by name, watched, restarted when they fail, stopped at the end.

It schedules nothing and limits nothing; what a task does is its own affair.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

_log = logging.getLogger("smart_city.supervision")

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 10.0
STEADY_SECONDS = 30.0
"""A task that ran this long before it failed starts again with the first pause."""

Value = TypeVar("Value")


class Tasks:
    """Owned background tasks: named, watched, restarted with back-off when they fail, stopped at close."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False

    def __len__(self) -> int:
        """How many are running."""
        return len(self._running)

    def start(
        self, name: str, run: Callable[[], Coroutine[Any, Any, None]], *, restart: bool = True
    ) -> asyncio.Task[None]:
        """Runs a long-lived loop; a failure is logged and, with ``restart``, it runs again after a pause."""
        return self.spawn(name, self._supervise(name, run) if restart else run())

    def spawn(self, name: str, coroutine: Coroutine[Any, Any, Value]) -> asyncio.Task[Value]:
        """Runs one coroutine to its end; a failure is logged, also when nobody awaits the task.

        Raises:
            RuntimeError: after `close`, when nobody would stop it any more.
        """
        if self._closed:
            coroutine.close()
            raise RuntimeError(f"{self.name} is closed and starts no task {name!r}")
        task = asyncio.get_running_loop().create_task(coroutine, name=f"{self.name}/{name}")
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    async def close(self, timeout: float = 5.0) -> None:  # noqa: ASYNC109  # a bound for all, and nothing is raised
        """Cancels every task and waits, at most ``timeout`` seconds; then the log names who did not stop."""
        self._closed = True
        tasks = self._running - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if not tasks:
            return
        _, stuck = await asyncio.wait(tasks, timeout=timeout)
        for task in stuck:
            _log.error("%s did not stop within %s s", task.get_name(), timeout)

    async def _supervise(self, name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        pause = FIRST_PAUSE
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            try:
                return await run()
            except Exception:
                if clock() - began >= STEADY_SECONDS:
                    pause = FIRST_PAUSE
                _log.exception("%s/%s failed; starting it again in about %.1f s", self.name, name, pause)
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  # spreads restarts, keeps no secret
            pause = min(pause * 2, LONGEST_PAUSE)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("%s failed", task.get_name(), exc_info=error)
