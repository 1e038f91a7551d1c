"""A process that extracts clips for another one: `python -m distmer.features.worker`. A crash of the detector
or of a decoder ends this process, and not the one that asks (`distmer.experiment.processes`).

A message is its length in 8 bytes, and then its bytes. Messages to this process are JSON. An answer is one
character, then a row as an Arrow table, or an error that concerns every clip as JSON.
"""

# pyright: strict, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from typing import IO

import pyarrow as pa
from pydantic import TypeAdapter

from distmer.config import FeatureConfig
from distmer.features.methods import require_same
from distmer.features.pipeline import FeatureRequest, extract
from distmer.features.row import FeatureRow, to_rows, to_table
from distmer.types import BadInput, FlowMap, RunError

_READY, _ROW, _ERROR = b"+", b"=", b"!"
_REQUESTS = TypeAdapter(FeatureRequest)


def packed(request: FeatureRequest, config: FeatureConfig) -> str:
    """A clip of frames for another process, as JSON; without its course where no sequence is asked for."""
    source = request.source
    if not config.frames and not isinstance(source, FlowMap):
        source = replace(source, course=())
    # By json: a path that is not UTF-8 has a form there, and a failure that names it comes later.
    return json.dumps(_REQUESTS.dump_python(replace(request, source=source)))


def unpacked(text: str | bytes) -> FeatureRequest:
    """The clip that `packed` made ready."""
    return _REQUESTS.validate_python(json.loads(text))


def send(stream: IO[bytes], message: bytes) -> None:
    """Write one message."""
    stream.write(len(message).to_bytes(8, "big") + message)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes | None:
    """The next message; None where the other side is gone, also in the middle of one."""
    head = stream.read(8)
    length = int.from_bytes(head, "big")
    message = stream.read(length) if len(head) == 8 else b""
    return message if len(head) == 8 and len(message) == length else None


def require_ready(message: bytes) -> None:
    """Raises BadInput where the worker cannot begin, as it would raise it here."""
    if message[:1] == _ERROR:
        error = json.loads(message[1:])
        raise (BadInput if error["bad_input"] else RunError)(error["sentence"])


def row_of(message: bytes) -> FeatureRow:
    """The row that a worker answered with. Raises BadInput and RunError as `extract` did there."""
    require_ready(message)
    (row,) = to_rows(pa.ipc.open_stream(message[1:]).read_all())
    return row


def _as_message(row: FeatureRow, config: FeatureConfig) -> bytes:
    table, buffer = to_table([row], config.size, config.size, config.frames), pa.BufferOutputStream()
    with pa.ipc.new_stream(buffer, table.schema) as stream:
        stream.write_table(table)
    return _ROW + buffer.getvalue().to_pybytes()


def main() -> None:
    """Answer until the other side closes the pipe. The first message holds the settings, and what was
    planned."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks: it ends this one
    asked, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a user's code prints is no answer
    task = json.loads(receive(asked) or b"{}")
    if not task:
        return
    config = FeatureConfig.model_validate(task["config"])
    try:
        require_same(config, task["planned"])
        send(answers, _READY)
        while (message := receive(asked)) is not None:
            send(answers, _as_message(extract(unpacked(message), config, task["planned"]), config))
    except (BadInput, RunError) as error:
        sentence = {"bad_input": isinstance(error, BadInput), "sentence": str(error)}
        send(answers, _ERROR + json.dumps(sentence).encode())
    except BrokenPipeError:  # the process that asked was killed: nobody wants what is in the buffer
        os._exit(1)


if __name__ == "__main__":
    main()
