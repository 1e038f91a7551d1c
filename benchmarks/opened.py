"""What a command does before its first fold when all is cached: `python -m benchmarks.opened [--json FILE]
[CLIPS …]`.

Ready-made maps of 28 px, ten people, on disk and on an S3 server of this machine (moto's). A run fills the
store, half a minute goes by, a second run sees the frames settled; of the third are told: the files it opens
below its workspace and data root (strace), or the requests that the server answers; and the seconds of
`features`, the lookup of all clips, in a process that has loaded its libraries.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import Row, keep, machine
from benchmarks.growth import maps
from harness import command, objects

SETTLE = 30  # s
LOOK_UP = """
import os, sys, time
from distmer.commands.session import Given, Session
from distmer.experiment.prepare import extract_missing
from distmer.experiment.local import LocalBackend
import distmer.datasets
some = Session.open(Given(None, sys.argv[2:], sys.argv[1]))
manifest = some.manifest()
begun = time.perf_counter()
backend = LocalBackend()
found = extract_missing(manifest, some.features(manifest), some.config.features, backend, [])
print(time.perf_counter() - begun, len(found.missing))
"""


def measured(count: int, place: str, root: str, home: str, log: Path | None, traces: Path) -> Row:
    settings = [
        "data.protocol=flowmaps",
        f"data.root={root}",
        "inputs.normalise=minmax",
        "model.name=linear",
        "tracking.enabled=false",
    ]
    settings += ["evaluation.folds=group_kfold", "evaluation.k=2", "evaluation.bootstrap=100"]
    words = [sys.executable, "-m", "distmer.cli", "run", "--local", "--workspace", home]
    words += [part for setting in settings for part in ("--set", setting)]
    env = command.environment(traces)

    def run(*before: str) -> None:
        subprocess.run([*before, *words], env=env, cwd=command.ROOT, check=True, capture_output=True)

    run()
    time.sleep(SETTLE)
    run()
    if log is None:
        run(
            "strace",
            "-f",
            "-qq",
            "-e",
            "trace=openat,open",
            "-e",
            "status=successful",
            "-o",
            str(traces / "trace"),
        )
        opened = re.findall(
            r'open(?:at)?\(.*?"([^"]+)", (\S+)', (traces / "trace").read_text(errors="replace")
        )
        told = [
            name for name, flags in opened if name.startswith((root, home)) and "O_DIRECTORY" not in flags
        ]
        requests = {"opened": len(told), "of them frames": sum(name.startswith(root) for name in told)}
    else:
        start = log.stat().st_size
        run()
        text = log.read_bytes()[start:].decode(errors="replace")
        lines = re.findall(r'"(?:\x1b\[\d+m)*(GET|PUT|HEAD|POST|DELETE) (\S+)', text)
        frames = root.partition("://")[2]
        requests = {
            "opened": len(lines),
            "of them frames": sum(
                verb == "GET" and frames in path and ".png" in path for verb, path in lines
            ),
        }
    seconds = []
    for _ in range(3):
        words_of_lookup = [sys.executable, "-c", LOOK_UP, home, *settings]
        said = subprocess.run(
            words_of_lookup, env=env, cwd=command.ROOT, check=True, text=True, capture_output=True
        ).stdout
        second, missing = said.split()
        assert missing == "0"
        seconds.append(float(second))
    return {"clips": f"{count:,}", "where": place, **requests, "lookup s": min(seconds)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", nargs="*", type=int, default=[36, 5000])
    parser.add_argument("--json")
    asked = parser.parse_args()
    begun, rows = machine(), list[Row]()
    for count in asked.clips:
        with tempfile.TemporaryDirectory(prefix="opened-") as work:
            root, traces = Path(work) / "maps", Path(work) / "traces"
            maps(count, root)
            traces.mkdir()
            rows.append(measured(count, "disk", str(root), f"{work}/home", None, traces))
            keep(None, begun, rows)
            with objects.serving(Path(work) / "requests"):
                far = objects.upload(root, objects.fresh())
                rows.append(measured(count, "S3", far, objects.fresh(), Path(work) / "requests", traces))
            keep(None, begun, rows)
    keep(asked.json, begun, rows)


if __name__ == "__main__":
    main()
