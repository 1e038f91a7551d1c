"""Where distmer reads and writes: a `Place` is a local path, or an address on an object store (s3://, gs://).

A local place is a `pathlib.Path`. A remote one is a `RemotePath`, which has the part of ``Path`` that reads.
For both, `write` writes a file, `files` lists all files below a folder, and `delete` deletes.

Credentials and the server's address come from the environment of the process, or from the role of its
machine, as the tools of AWS and Google have them. They never come from a setting, because settings are kept
with the run.

An object store that refuses or is away is a RunError of one sentence. A local disk that refuses is an
OSError. A name that is not there is a FileNotFoundError on both. ``docs/architecture.md`` says why this is
built on pyarrow.
"""

from __future__ import annotations

import csv
import errno
import io
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import lru_cache
from pathlib import Path, PurePath, PurePosixPath
from typing import Literal

from pyarrow import NativeFile, fs

from distmer.leftovers import temporary
from distmer.types import BadInput, RunError

_CONNECT, _SILENCE = 5, 6  # s; pyarrow tries three times, so a missing server is reported within some 20 s
_AGAIN = ", and run again; what was finished is kept."
_NO_BUCKET = "the bucket does not exist; make it, or correct the address"
# What the user is told, and the words of pyarrow's text that mean it, in any case; the first that fits.
# pyarrow raises OSError for all of it.
_REASONS = (
    (_NO_BUCKET, ("NO_SUCH_BUCKET", "specified bucket does not exist")),
    (
        "the credentials have expired; renew them (AWS_SESSION_TOKEN)",
        (
            *("ExpiredToken", "expired_token", "token has expired", "token has been expired"),
            *("token is expired", "token included in the request is expired"),
        ),
    ),
    (
        "the storage refuses the access; check the credentials in the environment (AWS_ACCESS_KEY_ID and"
        " AWS_SECRET_ACCESS_KEY, or GOOGLE_APPLICATION_CREDENTIALS), or the role of this machine, and what"
        " they may do with the bucket",
        (
            *("INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "ACCESS_DENIED", "HTTP status 401"),
            *("HTTP status 403", "PERMISSION_DENIED", "UNAUTHENTICATED", "OAuth2 access"),
        ),
    ),
    (
        "the storage does not answer; check the network, and AWS_ENDPOINT_URL if it is a server of your own",
        ("NETWORK_CONNECTION", "REQUEST_TIMEOUT", "curlCode", "UNAVAILABLE", "DEADLINE_EXCEEDED"),
    ),
    (
        "the storage refuses to look and does not say why; check whether the credentials have expired"
        " (AWS_SESSION_TOKEN), and whether AWS_REGION is the bucket's",
        ("HTTP status 400) during HeadObject",),  # the answer to a HEAD has no text
    ),
)


@dataclass(frozen=True, order=True, repr=False)
class RemotePath:
    """A folder or file on an object store; `place` makes one.

    Names are taken literally. ``..`` is resolved at once, so `below` can see what lies outside. If
    ``listed`` is a dict, each folder is listed once: the dict keeps the listing for all paths reached from
    this one.
    """

    scheme: str
    key: str  # bucket/name/of/the/object
    filesystem: fs.FileSystem = field(compare=False)
    listed: dict[str, dict[str, fs.FileType]] | None = field(compare=False)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.key}"

    __repr__ = __str__

    def __truediv__(self, other: str | PurePath) -> RemotePath:
        return replace(self, key=posixpath.normpath(f"{self.key}/{other}"))

    @property
    def name(self) -> str:
        return posixpath.basename(self.key)

    @property
    def stem(self) -> str:
        return PurePosixPath(self.key).stem

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.key).suffix

    @property
    def parent(self) -> RemotePath:
        return replace(self, key=posixpath.dirname(self.key) or self.key)

    def absolute(self) -> RemotePath:
        return self

    def resolve(self) -> RemotePath:
        """Itself: an object store has no links."""
        return self

    def iterdir(self) -> Iterator[RemotePath]:
        return (self / name for name in self._list())

    def is_dir(self) -> bool:
        known = None if self.listed is None else self.listed.get(posixpath.dirname(self.key))
        return bool(self._list()) if known is None else known.get(self.name) == fs.FileType.Directory

    def is_file(self) -> bool:
        return self.parent._list().get(self.name) == fs.FileType.File

    def exists(self) -> bool:
        return self.name in self.parent._list()

    @contextmanager
    def open(self, mode: Literal["rb"] = "rb") -> Iterator[NativeFile]:
        """The file, for reading at any position."""
        with _explained(self), self.filesystem.open_input_file(self.key) as file:
            yield file

    def read_bytes(self) -> bytes:
        with _explained(self), self.filesystem.open_input_stream(self.key) as stream:
            return stream.read()

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def _list(self) -> dict[str, fs.FileType]:
        """What lies directly in this folder; nothing if it is not a folder."""
        if self.listed is not None and self.key in self.listed:
            return self.listed[self.key]
        listings: dict[str, dict[str, fs.FileType]] = {self.key: {}}
        for info in _infos(self, recursive=self.scheme == "gs"):
            path, kind = info.path.rstrip("/"), info.type
            # pyarrow does not show Google's folders. They follow from the names of all that lies below.
            while len(path) > len(self.key):
                parent, name = posixpath.split(path)
                listings.setdefault(parent, {}).setdefault(name, kind)
                path, kind = parent, fs.FileType.Directory
        if self.listed is not None:
            self.listed.update(listings)
        return listings[self.key]


Place = Path | RemotePath


def place(text: str, *, still: bool = False) -> Place:
    """The place that a user named: a path (``~`` is the home folder), or an address. ``still``: nothing
    changes there while we read, so listings may be reused.

    BadInput for an address that cannot be opened, and for one that holds credentials or options.
    """
    if "://" not in text:
        return Path(text).expanduser()
    scheme, _, rest = _without_credentials(text).partition("://")
    bucket = rest.split("/", 1)[0]
    if scheme not in {"s3", "gs"} or not bucket:
        known = "a path, s3://bucket/… or gs://bucket/…"
        raise BadInput(f"{text}: not a storage address that can be opened; give {known}.")
    if re.search(r"\?\w+=", rest):
        elsewhere = "in the environment (AWS_REGION, AWS_ENDPOINT_URL)"
        raise BadInput(f"{text}: an address takes no options; give them {elsewhere}.")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    filesystem = _google() if scheme == "gs" else _amazon(bucket, region, endpoint)
    return RemotePath(scheme, posixpath.normpath(rest), filesystem, {} if still else None)


def anchored(text: str, base: Place) -> str:
    """A place that a setting names, made absolute: relative paths are below ``base``. BadInput for an address
    with credentials in it."""
    if "://" in text:
        return _without_credentials(text)
    local = Path(text).expanduser()
    if isinstance(base, Path):
        local = base / local
    return str(local.resolve() if local.is_absolute() else base / local)


def below(path: Place, root: Place) -> str | None:
    """The name of a path as seen from ``root``; None if it does not lie below it."""
    base = f"{str(root).rstrip('/')}/"
    return f"{path}/"[len(base) : -1] if f"{path}/".startswith(base) else None


def arrow(path: Place) -> tuple[fs.FileSystem, str]:
    """The file system of a place and the path in it, for a library that takes these."""
    if isinstance(path, RemotePath):
        return path.filesystem, path.key
    return fs.LocalFileSystem(), str(path.absolute())


def why_not(folder: Place, lacking: str) -> str:
    """Why a place is not the wanted folder: it is a file, it is not there, or else ``lacking``."""
    if folder.is_file():
        return "this is a file, and no folder"
    return lacking if folder.is_dir() else "there is no such folder"


def write(path: Place, data: bytes) -> None:
    """Put all bytes or nothing. A failure (full disk, no permission, lost line) leaves what was there before.

    Missing folders are made. On a disk, a temporary file beside the target is synced, then renamed. On an
    object store there is no renaming: an object is there when its upload is complete.
    """
    if isinstance(path, RemotePath):
        try:
            with _explained(path), path.filesystem.open_output_stream(path.key) as stream:
                stream.write(data)
        except FileNotFoundError as error:  # Google's word for it: nothing else needs to be there
            raise RunError(f"{path}: {_NO_BUCKET}{_AGAIN}") from error
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = temporary(path.parent, path.name)
    try:
        with unfinished.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException as error:
        unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(unfinished)):
            error.filename = str(path)  # for the message: a failed write, unlike a failed open, names no file
        raise


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def files(folder: Place, suffix: str = "") -> dict[str, fs.FileInfo]:
    """Every finished file below a folder, without temporary ones: relative name → size and time of
    modification, sorted by name. A folder that is not there has no files."""
    _, base = arrow(folder)
    found = _infos(folder, recursive=True)
    names = {info.path[len(base) :].lstrip("/"): info for info in found if info.is_file}
    visible = (name for name in sorted(names) if not posixpath.basename(name).startswith("."))
    return {name: names[name] for name in visible if name.endswith(suffix)}


def delete(path: Place) -> None:
    """Delete a file, or a folder with all that is in it, if it is there."""
    filesystem, key = arrow(path)
    with _explained(path), suppress(FileNotFoundError):  # Google's misses its own mark of a folder
        kind = filesystem.get_file_info(key).type
        if kind == fs.FileType.Directory:
            filesystem.delete_dir(key)
        elif kind == fs.FileType.File:
            filesystem.delete_file(key)


def _without_credentials(address: str) -> str:
    scheme, _, rest = address.partition("://")
    first = rest.split("/", 1)[0]
    if "@" in first or (":" in first and "@" in rest):  # a bucket's name has neither; a secret may hold /
        problem = f"{scheme}://***: an address must hold no credentials, for it is kept with the run"
        raise BadInput(f"{problem}; give them in the environment.")
    return address


@lru_cache
def _amazon(bucket: str, region: str | None, endpoint: str | None) -> fs.FileSystem:
    with _explained(f"s3://{bucket}"):
        return fs.S3FileSystem(
            region=region or ("us-east-1" if endpoint else fs.resolve_s3_region(bucket)),
            endpoint_override=endpoint,
            connect_timeout=_CONNECT,
            request_timeout=_SILENCE,
            allow_delayed_open=True,  # what is small is one PUT
        )


@lru_cache
def _google() -> fs.FileSystem:
    return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=3 * _SILENCE))


def _infos(folder: Place, *, recursive: bool) -> list[fs.FileInfo]:
    """What lies below a folder; nothing if it is not one. RunError if S3 has no such bucket; Google does not
    say so."""
    filesystem, key = arrow(folder)
    # With `allow_not_found`, pyarrow takes an S3 bucket that is not there for an empty folder. Without it,
    # its error for Google has no reason in it.
    selector = fs.FileSelector(key, recursive=recursive, allow_not_found=filesystem.type_name == "gcs")
    try:
        with _explained(folder):
            return filesystem.get_file_info(selector)
    except (FileNotFoundError, NotADirectoryError):
        return []


@contextmanager
def _explained(path: Place | str) -> Iterator[None]:
    """Turn an error of pyarrow into one sentence: RunError if the object store is away or refuses,
    FileNotFoundError if there is nothing of this name. Other errors pass: damaged Parquet is an
    OSError too."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, "there is nothing of this name", str(path)) from error
    except OSError as error:
        text = " ".join(str(error).split())
        if "AWS Error" not in text and "google::cloud" not in text:
            raise
        known = (reason for reason, words in _REASONS if any(word.lower() in text.lower() for word in words))
        reason = next(known, f"the storage failed ({text[:300]}); fix that")
        raise RunError(f"{path}: {reason}{_AGAIN}") from error
