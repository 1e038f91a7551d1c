"""Places on an object store (``s3://bucket/…``, ``gs://bucket/…``), as far as distmer looks at them.

Credentials and the address of the server come from the environment of the process or the role of its machine, as AWS's and
Google's own tools have them (AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL; GOOGLE_APPLICATION_CREDENTIALS): never from
a setting, for settings are kept with the run.
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from pathlib import Path, PurePath, PurePosixPath

from pyarrow import fs

from distmer.types import BadInput, RunError

_CONNECT, _SILENCE = 5, 6  # s; pyarrow tries three times
# What a server's answer or a broken line looks like in pyarrow's text, and the sentence's end that helps. The first that fits.
_REASONS = (
    (r"NO_SUCH_BUCKET|specified bucket does not exist", "the bucket does not exist; make it, or correct the address"),
    (r"(?i)Expired_?Token|token (?:\w+ )?(?:has|is) expired", "the credentials have expired; renew them (AWS_SESSION_TOKEN)"),
    (
        r"INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|ACCESS_DENIED|HTTP status 40[13]|PERMISSION_DENIED|UNAUTHENTICATED|OAuth2 access",
        "the storage refuses the access; check the credentials in the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or"
        " GOOGLE_APPLICATION_CREDENTIALS), or the role of this machine, and what they may do with the bucket",
    ),
    (
        r"NETWORK_CONNECTION|REQUEST_TIMEOUT|curlCode|UNAVAILABLE|DEADLINE_EXCEEDED",
        "the storage does not answer; check the network, and AWS_ENDPOINT_URL if it is a server of your own",
    ),
)


class Remote:
    """A folder or file on an object store, with what is used of ``pathlib.Path`` to read one. Names are taken literally, and are
    normal: ``..`` is worked out at once, so that `below` tells what lies outside.

    ``still=True``: nothing changes while we read, so a listing is asked for once and kept (by all places reached from here).
    RunError, in one sentence, where the storage is away or refuses; FileNotFoundError where there is no such file.
    """

    __slots__ = ("_fs", "_key", "_listed", "_scheme")

    def __init__(self, address: str, *, still: bool = False) -> None:
        self._scheme, _, rest = address.partition("://")
        self._key = posixpath.normpath(rest)
        self._fs = filesystem(address)
        self._listed: dict[str, dict[str, fs.FileType]] | None = {} if still else None

    def __str__(self) -> str:
        return f"{self._scheme}://{self._key}"

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remote) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __lt__(self, other: Remote) -> bool:
        return str(self) < str(other)

    def __truediv__(self, other: str | PurePath) -> Remote:
        return self._at(posixpath.normpath(f"{self._key}/{other}"))

    @property
    def name(self) -> str:
        return posixpath.basename(self._key)

    @property
    def stem(self) -> str:
        return PurePosixPath(self._key).stem

    @property
    def suffix(self) -> str:
        return PurePosixPath(self._key).suffix

    @property
    def parent(self) -> Remote:
        return self._at(posixpath.dirname(self._key) or self._key)

    @property
    def arrow(self) -> tuple[fs.FileSystem, str]:
        """The file system and the path in it, for a library that takes these."""
        return self._fs, self._key

    def absolute(self) -> Remote:
        return self

    def resolve(self) -> Remote:
        """Itself: an object store has no links."""
        return self

    def iterdir(self) -> Iterator[Remote]:
        return (self / name for name in self._list())

    def is_dir(self) -> bool:
        known = None if self._listed is None else self._listed.get(posixpath.dirname(self._key))
        return bool(self._list()) if known is None else known.get(self.name) == fs.FileType.Directory

    def is_file(self) -> bool:
        return self.parent._list().get(self.name) == fs.FileType.File

    def exists(self) -> bool:
        return self.name in self.parent._list()

    def read_bytes(self) -> bytes:
        with telling(str(self)), self._fs.open_input_stream(self._key) as stream:
            return stream.read()

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def _at(self, key: str) -> Remote:
        other = object.__new__(Remote)
        other._scheme, other._key, other._fs, other._listed = self._scheme, key, self._fs, self._listed
        return other

    def _list(self) -> dict[str, fs.FileType]:
        """What lies directly in this folder; nothing if it is none."""
        if self._listed is not None and self._key in self._listed:
            return self._listed[self._key]
        listings: dict[str, dict[str, fs.FileType]] = {self._key: {}}
        for info in listing(self._fs, self._key, str(self), recursive=self._scheme == "gs"):
            path, kind = info.path.rstrip("/"), info.type
            while len(path) > len(self._key):  # Google's knows no folders but those of its own making: they follow from the names below
                parent, name = posixpath.split(path)
                listings.setdefault(parent, {}).setdefault(name, kind)
                path, kind = parent, fs.FileType.Directory
        if self._listed is not None:
            self._listed.update(listings)
        return listings[self._key]


Place = Path | Remote  # a local path, or an address


def place(text: str, *, still: bool = False) -> Place:
    """The place that a user named: a path (``~`` is one's home), or an address. BadInput for an address of another kind."""
    return Remote(text, still=still) if "://" in text else Path(text).expanduser()


def anchored(text: str, base: Place) -> str:
    """A place that a setting names, made absolute: relative paths are below ``base``. BadInput for an address with credentials in it."""
    if "://" in text:
        return _public(text)
    local = Path(text).expanduser()
    if isinstance(base, Path):
        local = base / local
    return str(local.resolve() if local.is_absolute() else base / local)


def below(path: Place, root: Place) -> str | None:
    """The name of a path as seen from ``root``; None if it does not lie below it."""
    base = f"{str(root).rstrip('/')}/"
    return f"{path}/"[len(base) : -1] if f"{path}/".startswith(base) else None


def filesystem(address: str) -> fs.FileSystem:
    """The file system of an address. BadInput: not one of ours, or it holds what belongs into the environment."""
    _public(address)
    scheme, _, rest = address.partition("://")
    bucket = rest.split("/", 1)[0]
    if scheme not in {"s3", "gs"} or not bucket:
        raise BadInput(f"{address}: not a storage address that can be opened; give a path, s3://bucket/… or gs://bucket/….")
    if re.search(r"\?\w+=", rest):
        raise BadInput(f"{address}: an address takes no options; give them in the environment (AWS_REGION, AWS_ENDPOINT_URL).")
    if scheme == "gs":
        return _google()
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return _amazon(bucket, region, os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"))


def _public(address: str) -> str:
    scheme, _, rest = address.partition("://")
    first = rest.split("/", 1)[0]
    if "@" in first or (":" in first and "@" in rest):  # a bucket's name has neither; a secret may hold a slash
        raise BadInput(f"{scheme}://***: an address must hold no credentials, for it is kept with the run; give them in the environment.")
    return address


@lru_cache
def _amazon(bucket: str, region: str | None, endpoint: str | None) -> fs.FileSystem:
    with telling(f"s3://{bucket}"):
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


def listing(filesystem: fs.FileSystem, path: str, address: str, *, recursive: bool) -> list[fs.FileInfo]:
    """What lies below a path; nothing if there is no such folder. RunError if there is no such bucket, as far as the storage tells."""
    # S3 with `allow_not_found` would take a bucket that is not there for an empty folder; Google's without it has no word of its own.
    lenient = filesystem.type_name == "gcs"
    try:
        with telling(address):
            return filesystem.get_file_info(fs.FileSelector(path, recursive=recursive, allow_not_found=lenient))
    except (FileNotFoundError, NotADirectoryError):
        return []


@contextmanager
def telling(address: str, *, writing: bool = False) -> Iterator[None]:
    """What pyarrow raises within, as one sentence: RunError where the storage is away or refuses, FileNotFoundError where there
    is nothing (to be read). Any other error passes as it is: bytes that are no Parquet are an OSError too."""
    try:
        yield
    except FileNotFoundError as error:
        if writing and "://" in address:
            raise RunError(f"{address}: {_REASONS[0][1]}.") from error
        raise FileNotFoundError(errno.ENOENT, "there is nothing of this name", address) from error
    except OSError as error:
        text = " ".join(str(error).split())
        if "AWS Error" not in text and "google::cloud" not in text:
            raise
        reason = next((words for pattern, words in _REASONS if re.search(pattern, text)), f"the storage failed ({text[:300]})")
        raise RunError(f"{address}: {reason}; what was finished is kept: mend it and give the same command again.") from error
