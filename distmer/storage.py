"""One file-system layer for everything distmer writes: a local path, or an address on an object store (s3://, gs://).

A write is all or nothing. Locally: a temporary file beside the target, synced, then renamed. On an object store an object is
there when its upload is complete, and there is no rename.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyarrow import NativeFile, fs

from distmer.leftovers import temporary
from distmer.remote import Remote, listing, telling


class Store:
    """A folder, local or remote. Keys are relative POSIX paths below it.

    A local failure is an OSError. A remote one (away, refused, no such bucket) is a RunError, a sentence that needs no more words;
    a missing key is FileNotFoundError on both.
    """

    def __init__(self, uri: str | Path | Remote) -> None:
        self.uri = str(uri)
        self._local = "://" not in self.uri
        if self._local:
            self.uri = str(Path(self.uri).expanduser().absolute())
            self._fs: fs.FileSystem = fs.LocalFileSystem()
            self._base = self.uri
        else:
            folder = Remote(self.uri)
            self.uri = str(folder)
            self._fs, self._base = folder.arrow

    def __truediv__(self, key: str) -> Store:
        return Store(f"{self.uri}/{key}")

    def path(self, key: str) -> str:
        """The full address of a key, for messages and for readers that take one."""
        return f"{self.uri}/{key}"

    @property
    def arrow(self) -> tuple[fs.FileSystem, str]:
        """The file system and the path in it, for a library that takes these."""
        return self._fs, self._base

    def exists(self, key: str) -> bool:
        with telling(self.path(key)):
            return self._fs.get_file_info(f"{self._base}/{key}").type == fs.FileType.File

    def read(self, key: str) -> bytes:
        """The bytes of a key; FileNotFoundError when there is none."""
        with telling(self.path(key)), self._fs.open_input_stream(f"{self._base}/{key}") as stream:
            return stream.read()

    @contextmanager
    def open(self, key: str) -> Iterator[NativeFile]:
        """A key for reading here and there; FileNotFoundError when there is none."""
        with telling(self.path(key)), self._fs.open_input_file(f"{self._base}/{key}") as file:
            yield file

    def write(self, key: str, data: bytes) -> None:
        """Put all bytes or nothing. A failure (a full disk, no permission, a lost connection) leaves what was there before."""
        target = f"{self._base}/{key}"
        if not self._local:
            with telling(self.path(key), writing=True), self._fs.open_output_stream(target) as stream:
                stream.write(data)
            return
        folder, name = os.path.split(target)
        os.makedirs(folder, exist_ok=True)
        unfinished = temporary(folder, name)
        try:
            with open(unfinished, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, target)
        except BaseException as error:
            unfinished.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.filename in (None, str(unfinished)):
                error.filename = target  # for the message: a failed write, unlike a failed open, does not say of which file
            raise

    def files(self, suffix: str = "") -> dict[str, fs.FileInfo]:
        """Every finished key below this folder with its size and modification time, sorted; half-written temporaries are never
        among them."""
        found = listing(self._fs, self._base, self.uri, recursive=True)
        names = {info.path[len(self._base) :].lstrip("/"): info for info in found if info.type == fs.FileType.File}
        return {n: names[n] for n in sorted(names) if n.endswith(suffix) and not os.path.basename(n).startswith(".")}

    def keys(self, suffix: str = "") -> list[str]:
        """Every finished key below this folder, sorted."""
        return list(self.files(suffix))

    def remove(self, key: str) -> None:
        """Delete a file, or a folder with all that is in it, if it is there."""
        with telling(self.path(key)), suppress(FileNotFoundError):  # Google's misses its own mark of a folder, last of all
            kind = self._fs.get_file_info(f"{self._base}/{key}").type
            if kind == fs.FileType.Directory:
                self._fs.delete_dir(f"{self._base}/{key}")
            elif kind == fs.FileType.File:
                self._fs.delete_file(f"{self._base}/{key}")
