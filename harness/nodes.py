"""A Ray cluster of several nodes on this machine: a head without CPUs, and workers that can be lost and
added."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from harness import command

RAY = str(Path(sys.executable).with_name("ray"))
_STORE = 100 * 2**20

FOLD = r"^fold |^_Lane\.train"
CLIPS = r"^MapWorker.*\.submit"
Choose = Callable[[Sequence["Node"]], "Node"]


def first(nodes: Sequence[Node]) -> Node:
    return nodes[0]


class NeverCameError(RuntimeError):
    """A node that was started did not join."""


@dataclass(eq=False)
class Node:
    """The processes of one `ray start`, and the address that Ray knows it by."""

    ip: str
    process: subprocess.Popen[bytes]

    def family(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.process.pid)
            return [parent, *parent.children(recursive=True)]
        return []

    def work(self, doing: str = "") -> list[str]:
        """What (of ``doing``) its workers are doing now, by the names that Ray gives their processes."""
        titles: list[str] = []
        for process in self.family():
            with suppress(psutil.Error):
                title = process.cmdline()[:1]
                titles += [
                    t.removeprefix("ray::") for t in title if t.startswith("ray::") and "IDLE" not in t
                ]
        return [title for title in titles if re.search(doing, title)]

    def kill(self) -> None:
        """As a power cut: no process of it gets to say a word."""
        family = self.signal(signal.SIGKILL)
        psutil.wait_procs(family, timeout=10)
        self.process.wait()

    def signal(self, number: signal.Signals) -> list[psutil.Process]:
        family = self.family()
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        return family


@dataclass
class Nodes:
    """A context: the head runs within it, and every node that is left ends with it. Token authentication is
    on, with this process's token if it has one: then a command in this process can join."""

    head_args: tuple[str, ...] = ()
    extra: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=command.free_port)
    token: str = field(default_factory=lambda: os.environ.get("RAY_AUTH_TOKEN") or secrets.token_hex(32))

    def __enter__(self) -> Self:
        # Ray's sockets lie below it, and a socket's path ends at 107 bytes
        self._folder = Path(tempfile.mkdtemp(prefix="r"))
        self._count, self.workers = 1, list[Node]()
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token, "RAY_USAGE_STATS_ENABLED": "0"}
        self.address = f"127.0.0.1:{self.port}"
        self.environ = command.environment(self._folder / "home", **token, **self.extra)
        self.driver = {**token, "RAY_ADDRESS": self.address}  # what a driver's environment needs
        head = [
            "--head",
            f"--port={self.port}",
            "--num-cpus=0",
            f"--temp-dir={self._folder}",
            "--include-dashboard=false",
            *self.head_args,
        ]
        self.head = self._start_again("127.0.0.1", head, {})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in (*self.workers, self.head):
            node.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, cpus: int = 1, gpus: int = 0, **env: Any) -> Node:
        """A node more, once it has joined: of two that start together both may choose the same socket."""
        where = [f"--address={self.address}", f"--num-cpus={cpus}", f"--num-gpus={gpus}"]
        self._count += 1
        node = self._start_again(f"127.0.0.{self._count}", where, env)
        self.workers.append(node)
        return node

    def kill(self, node: Node) -> None:
        self.workers.remove(node)
        node.kill()

    def lose_one(
        self, process: subprocess.Popen[str], when: Callable[[], bool], doing: str, choose: Choose = first
    ) -> tuple[Node, list[str]]:
        """Once it is time and a node has such work running: that node is gone, and what its workers were
        doing is told."""
        command.wait_for(when, process)
        lost: list[tuple[Node, list[str]]] = []

        def found() -> bool:
            busy = [node for node in self.workers if node.work(doing)]
            if not busy:
                return False
            victim = choose(busy)
            # Held still and looked at again: what was under way a moment ago may have ended since, and then
            # nothing is lost.
            victim.signal(signal.SIGSTOP)
            work = victim.work(doing)
            if not work:
                victim.signal(signal.SIGCONT)
                return False
            self.kill(victim)
            lost.append((victim, work))
            return True

        command.wait_for(found, process)
        return lost[0]

    def logs(self, pattern: str) -> list[Path]:
        return list(self._folder.glob(f"session_latest/logs/{pattern}"))

    def again(self, before: int, seconds: float = command.PATIENCE) -> bool:
        """Whether more tasks than ``before`` were begun again: workers write Ray's record every second, not
        at once."""
        deadline = time.monotonic() + seconds
        while sum(self.repeated().values()) <= before:
            if time.monotonic() > deadline:
                return False
        return True

    def repeated(self) -> dict[str, int]:
        """Tasks that Ray has begun again since the cluster was started, by name."""
        ask = [sys.executable, "-m", "harness.attempts", self.address]
        return json.loads(
            subprocess.run(
                ask, cwd=command.ROOT, env=self.environ, text=True, capture_output=True, check=True
            ).stdout
        )

    def _start_again(self, ip: str, arguments: list[str], env: dict[str, Any]) -> Node:
        # Ray gives up a node that takes more than 30 s to start, as on a busy machine it may
        for _ in range(5):
            with suppress(NeverCameError):
                return self._start(ip, arguments, env)
        return self._start(ip, arguments, env)

    def _start(self, ip: str, arguments: list[str], env: dict[str, Any]) -> Node:
        # Several nodes on one machine: each an address, no fixed port, a small object store.
        start = [
            RAY,
            "start",
            "--block",
            f"--node-ip-address={ip}",
            f"--object-store-memory={_STORE}",
            *arguments,
        ]
        start += [
            "--include-log-monitor=false",
            "--min-worker-port=0",
            "--max-worker-port=0",
            f"--dashboard-agent-listen-port={command.free_port()}",
        ]
        log = self._folder / f"{ip}.log"
        environ = {**self.environ, **{name: str(value) for name, value in env.items()}}
        with log.open("w") as file:
            process = subprocess.Popen(
                start, env=environ, cwd=command.ROOT, stdout=file, stderr=file, start_new_session=True
            )
        node = Node(ip, process)
        deadline = time.monotonic() + command.PATIENCE
        while "Ray runtime started" not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                node.kill()
                raise NeverCameError(f"{ip}: {log.read_text()}")
            time.sleep(0.1)
        return node
