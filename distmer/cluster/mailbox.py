"""What runs in the actors of a sweep's trials. It is little, and this module loads little."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import ray
from ray import tune


@ray.remote(num_cpus=0)
class Mailbox:
    """Where the driver leaves each trial's reports, and the trials wait for theirs."""

    def __init__(self) -> None:
        self._reports: dict[tuple[str, int, int], asyncio.Future[dict[str, Any] | None]] = {}
        self._closed = False

    async def put(self, search: str, index: int, number: int, report: dict[str, Any] | None) -> None:
        self._place(search, index, number).set_result(report)

    async def take(self, search: str, index: int, number: int) -> dict[str, Any] | None:
        """A trial's report by its number, also a second time; None when there will be none."""
        return None if self._closed else await asyncio.shield(self._place(search, index, number))

    async def close(self) -> None:
        self._closed = True
        for place in self._reports.values():
            if not place.done():
                place.set_result(None)

    def _place(self, *key: Any) -> asyncio.Future[dict[str, Any] | None]:
        return self._reports.setdefault(key, asyncio.get_running_loop().create_future())


def trial(config: dict[str, Any], mailbox: Any = None) -> None:
    """A trial, as Tune sees it."""
    for number in itertools.count():
        taken = mailbox.take.remote(config["search"], config["index"], number)
        report: dict[str, Any] | None = ray.get(taken)
        if report is None:
            return
        tune.report(report)
        if report["last"]:
            return
