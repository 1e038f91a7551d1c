"""A process that extracts clips for another one: `python -m distmer.features.worker`.

What crashes in it (a detector, a decoder) takes this process along, and not the one that asks
(`distmer.experiment.processes`). A message is its length in 8 bytes, and then itself: JSON to this process;
back a letter, and a row as an Arrow table, or JSON of an error that concerns every clip.
"""

# pyright: strict, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import json
import os
import signal
import sys
from typing import IO, Any

import pyarrow as pa

from distmer.config import FeatureConfig
from distmer.features.methods import require_same
from distmer.features.pipeline import FeatureRequest, extract
from distmer.features.row import FeatureRow, to_rows, to_table
from distmer.types import ApexSearch, BadInput, FlowMap, KeyFrames, RunError

_READY, _ROW, _ERROR = b"+", b"=", b"!"


def packed(request: FeatureRequest, config: FeatureConfig) -> dict[str, Any]:
    """A clip of frames for another process: texts, numbers and lists of them."""
    source = request.source
    assert not isinstance(source, FlowMap)
    searched = isinstance(source, ApexSearch)
    paths = [source.onset, *(source.candidates if searched else (source.apex,))]
    course = source.course if config.frames else ()
    numbers, files = [number for number, _ in course], [file for _, file in course]
    # a column of empty lists would have another type than the same column with entries
    between = {"numbers": numbers, "files": files} if course else {}
    return {"clip_id": request.clip_id, "searched": searched, "paths": paths, **between}


def unpacked(record: dict[str, Any]) -> FeatureRequest:
    """The clip that `packed` made ready."""
    onset, *others = record["paths"]
    course = tuple(
        (int(number), str(file))
        for number, file in zip(record.get("numbers") or (), record.get("files") or (), strict=True)
    )
    source = (
        ApexSearch(onset, tuple(others), course)
        if record["searched"]
        else KeyFrames(onset, *others, course=course)
    )
    return FeatureRequest(record["clip_id"], source)


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
    """Answer until nobody asks any more. The first message holds the settings, and what was planned."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks, which then ends us
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
            send(
                answers, _as_message(extract(unpacked(json.loads(message)), config, task["planned"]), config)
            )
    except (BadInput, RunError) as error:
        sentence = {"bad_input": isinstance(error, BadInput), "sentence": str(error)}
        send(answers, _ERROR + json.dumps(sentence).encode())
    except BrokenPipeError:  # whoever asked was killed, and what is in the buffer is for nobody
        os._exit(1)


if __name__ == "__main__":
    main()
