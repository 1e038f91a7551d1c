"""One file-system layer for everything distmer writes: a local path, or a URI that pyarrow knows (s3://, gs://).

A write is all or nothing. Locally: a temporary file beside the target, synced, then renamed. On an object store a PUT is
atomic already, and there is no rename.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from pyarrow import NativeFile, fs

from distmer.types import BadInput


class Store:
    """A folder, local or remote. Keys are relative POSIX paths below it."""

    def __init__(self, uri: str | Path) -> None:
        self.uri = str(uri)
        self._local = "://" not in self.uri
        if self._local:
            self.uri = str(Path(self.uri).expanduser().absolute())
            self._fs: fs.FileSystem = fs.LocalFileSystem()
            self._base = self.uri
        else:
            try:
                self._fs, self._base = fs.FileSystem.from_uri(self.uri)
            except (ValueError, OSError) as error:
                raise BadInput(f"{self.uri}: not a storage address that can be opened ({error}); give a path, s3://… or gs://….") from error

    def __truediv__(self, key: str) -> Store:
        return Store(f"{self.uri}/{key}")

    def path(self, key: str) -> str:
        """The full address of a key, for messages and for readers that take one."""
        return f"{self.uri}/{key}"

    def exists(self, key: str) -> bool:
        return self._fs.get_file_info(f"{self._base}/{key}").type == fs.FileType.File

    def read(self, key: str) -> bytes:
        """The bytes of a key; FileNotFoundError when there is none."""
        with self._fs.open_input_stream(f"{self._base}/{key}") as stream:
            return stream.read()

    def open(self, key: str) -> NativeFile:
        """A key for reading here and there; FileNotFoundError when there is none."""
        return self._fs.open_input_file(f"{self._base}/{key}")

    def write(self, key: str, data: bytes) -> None:
        """Put all bytes or nothing. OSError (a full disk, no permission) leaves no trace of the key."""
        target = f"{self._base}/{key}"
        if not self._local:
            with self._fs.open_output_stream(target) as stream:
                stream.write(data)
            return
        folder, name = os.path.split(target)
        os.makedirs(folder, exist_ok=True)
        temporary = f"{folder}/.{name}.{secrets.token_hex(4)}.tmp"
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException as error:
            Path(temporary).unlink(missing_ok=True)
            if isinstance(error, OSError) and error.filename in (None, temporary):
                error.filename = target  # for the message: a failed write, unlike a failed open, does not say of which file
            raise

    def keys(self, suffix: str = "") -> list[str]:
        """Every finished key below this folder, sorted; half-written temporaries are never among them."""
        selector = fs.FileSelector(self._base, recursive=True, allow_not_found=True)
        names = (info.path[len(self._base) :].lstrip("/") for info in self._fs.get_file_info(selector) if info.type == fs.FileType.File)
        return sorted(n for n in names if n.endswith(suffix) and not os.path.basename(n).startswith("."))

    def remove(self, key: str) -> None:
        """Delete a folder below this one, if it is there."""
        if self._fs.get_file_info(f"{self._base}/{key}").type == fs.FileType.Directory:
            self._fs.delete_dir(f"{self._base}/{key}")
