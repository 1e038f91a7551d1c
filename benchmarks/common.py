"""What the measurements share: which machine it was, and tables that read as text and as Markdown."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

Row = Mapping[str, Any]


def machine() -> dict[str, Any]:
    """This machine, and how busy others keep it: a figure without it says nothing."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpus": os.cpu_count(),
        "load": [round(load, 1) for load in os.getloadavg()],
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("ray", "torch", "pyarrow")},
    }


def table(rows: Sequence[Row]) -> str:
    """Rows under their names, in Markdown."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([_text(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def keep(path: str | None, begun: Mapping[str, Any], rows: Sequence[Row], **more: Any) -> None:
    """Print the table; write everything as JSON, if a place is named."""
    print(table(rows), flush=True)
    if path:
        result = {"begun": begun, "ended": machine(), **more, "rows": list(rows)}
        Path(path).write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) and abs(value) < 10 else f"{value:.1f}" if isinstance(value, float) else str(value)
