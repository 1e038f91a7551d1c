"""Every measurement of speed, one after the other: `python -m benchmarks [--maps FOLDER] [--json FOLDER]
[--only steps loso …]`.

An hour on two cores; let nothing else run. Each part is a command of its own, below, and prints its table;
with ``--json`` its figures and the machine's description are kept, a file a part. Without ``--maps`` (flow
maps as STSTNet publishes them) the three parts that need them are left out. Loss, autoscaling, schedulers and
limits of the cluster are measured apart: docs/scale.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.common import ROOT
from harness import guard

PARTS = {
    "steps": ["benchmarks.steps"],
    "loso": ["benchmarks.whole", "loso"],
    "same": ["benchmarks.same"],
    "orchestration": ["benchmarks.whole", "orchestration"],
    "flow": ["benchmarks.flow"],
    "extraction": ["benchmarks.extraction"],
    "start": ["benchmarks.whole", "start", "--rounds", "5"],
    "growth": ["benchmarks.growth"],
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--maps", type=Path)
    parser.add_argument("--json", type=Path, help="a folder for the figures")
    parser.add_argument("--only", nargs="*", default=list(PARTS), choices=PARTS)
    asked = parser.parse_args()
    guard.begin()  # what is started from here on ends with this process
    failed = 0
    for name in asked.only:
        needs_maps = name in {"loso", "same", "orchestration"}
        if needs_maps and asked.maps is None:
            print(f"\n{name}: left out, for it needs --maps FOLDER", flush=True)
            continue
        command = [
            sys.executable,
            "-m",
            *PARTS[name],
            *(["--maps", str(asked.maps.resolve())] if needs_maps else []),
        ]
        if asked.json:
            asked.json.mkdir(parents=True, exist_ok=True)
            command += ["--json", str(asked.json.resolve() / f"{name}.json")]
        print(f"\n{name}: {' '.join(command[1:])}", flush=True)
        failed += subprocess.call(command, cwd=ROOT) != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
