"""A real S3 server (moto's) on the loopback address, and lines to it that break."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import boto3

from distmer.storage import place, write
from harness import command

BUCKET = "laboratory"
_FOREIGN = ("AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN")


@dataclass(frozen=True)
class Server:
    """Where the server listens, and what a process needs in its environment to use it."""

    url: str
    environ: Mapping[str, str]

    def user(self, *actions: str, put_only: str = "*") -> dict[str, str]:
        """The credentials of a new user who may do this (else anything); from here on the server checks who
        asks."""
        iam, name = boto3.client("iam", **self._boto), f"user-{secrets.token_hex(4)}"
        iam.create_user(UserName=name)
        rest = [action for action in actions if action != "s3:PutObject"] or ["s3:*"]
        allowed = [{"Effect": "Allow", "Action": rest, "Resource": "*"}]
        if "s3:PutObject" in actions:
            allowed.append(
                {"Effect": "Allow", "Action": ["s3:PutObject"], "Resource": f"arn:aws:s3:::{put_only}"}
            )
        policy = json.dumps({"Version": "2012-10-17", "Statement": allowed})
        iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=policy)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        self.checking(True)
        return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}

    def checking(self, wanted: bool) -> None:
        number = b"0" if wanted else b"inf"  # of requests that go unchecked
        request = urllib.request.Request(
            f"{self.url}/moto-api/reset-auth", number, {"Content-Type": "text/plain"}, method="POST"
        )
        urllib.request.urlopen(request, timeout=60).close()

    def make_bucket(self) -> None:
        boto3.client("s3", **self._boto).create_bucket(Bucket=BUCKET)

    @property
    def _boto(self) -> dict[str, str]:
        return {
            "endpoint_url": self.url,
            "region_name": "us-east-1",
            "aws_access_key_id": "any",
            "aws_secret_access_key": "any",
        }


@contextmanager
def serving(log: Path | None = None) -> Iterator[Server]:
    """A server with one empty bucket; this process's environment leads to it. It writes a line for each
    request to ``log``, if there is one."""
    port = command.free_port()
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (log or Path(os.devnull)).open("wb") as lines:
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=lines)
    url = f"http://127.0.0.1:{port}"
    given = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_REGION": "us-east-1",
    }
    try:
        deadline = time.monotonic() + command.PATIENCE
        while True:
            assert process.poll() is None and time.monotonic() < deadline, "moto's server does not start"
            with suppress(OSError):
                urllib.request.urlopen(f"{url}/moto-api/", timeout=5).close()
                break
            time.sleep(0.05)
        server = Server(url, given)
        server.make_bucket()
        with surroundings(given):
            yield server
    finally:
        process.terminate()
        process.wait(timeout=command.PATIENCE)


@contextmanager
def surroundings(values: Mapping[str, str]) -> Iterator[None]:
    """These variables in the environment, and none of AWS's that would lead elsewhere."""
    before = {name: os.environ.get(name) for name in (*values, *_FOREIGN)}
    for name in _FOREIGN:
        os.environ.pop(name, None)
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def fresh() -> str:
    """The address of a folder that nobody has used."""
    return f"s3://{BUCKET}/{secrets.token_hex(6)}"


def upload(folder: Path, address: str) -> str:
    root = place(address)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            write(root / path.relative_to(folder), path.read_bytes())
    return address


@contextmanager
def answering(reply: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A server that gives every request this one reply; its address, and the first lines of what it was
    asked."""
    asked: list[bytes] = []

    def serve(line: socket.socket) -> None:
        with line:
            data = line.recv(1 << 16)
            if data:
                asked.append(data.split(b"\r\n")[0])
                line.sendall(reply)
                line.shutdown(socket.SHUT_WR)
                while line.recv(1 << 16):
                    pass

    with _listening(serve) as url:
        yield url, asked


@contextmanager
def breaking(server: Server, after: int) -> Iterator[str]:
    """The address of a line to the server that breaks when so many bytes of one connection were sent."""
    host, port = server.url.removeprefix("http://").split(":")

    def serve(line: socket.socket) -> None:
        with line, socket.create_connection((host, int(port))) as target:
            back = threading.Thread(target=_copy, args=(target, line), daemon=True)
            back.start()
            sent = 0
            while data := line.recv(1 << 14):
                sent += len(data)
                if sent > after:
                    break
                target.sendall(data)

    with _listening(serve) as url:
        yield url


@contextmanager
def _listening(serve: object) -> Iterator[str]:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    line, _ = listener.accept()
                    threading.Thread(target=_quietly, args=(serve, line), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def _quietly(serve: object, line: socket.socket) -> None:
    with suppress(OSError):
        serve(line)  # type: ignore[operator]


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 14):
            target.sendall(data)
