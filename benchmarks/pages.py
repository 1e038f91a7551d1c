"""How long pages take, and how large they are: `python -m benchmarks.pages [--runs 2000]`.

A run of 442 clips, 68 subjects and 5 seeds (the size of MEGC 2019) with made-up predictions, and a workspace
of so many such runs. Nothing is trained. It takes about half a minute.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from distmer.report.curves import curves_json
from distmer.report.page import write_page
from distmer.report.run_folder import write_predictions, write_results
from tests import factories

PEOPLE = (("smic", 16), ("casme2", 24), ("samm", 28))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=2000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        home = Path(text)
        run = home / "runs" / "000000000000"
        run.mkdir(parents=True)
        _run(run)
        once, again = _timed(lambda: write_page(run)), _timed(lambda: write_page(run))
        size = (run / "report.html").stat().st_size
        print(f"report of 442 clips x 5 seeds: {size / 1e6:.2f} MB, {once:.2f} s, a second one {again:.2f} s")
        print(f"distmer report, from start to end: {_call('report', str(run))}")
        tree = json.loads((run / "results.json").read_text())
        for n in range(1, asked.runs):
            folder = home / "runs" / f"{n:012x}"
            folder.mkdir()
            own = tree | {"model": ("atscnn", "linear", "svm")[n % 3], "digest": f"{n:064x}"}
            (folder / "results.json").write_text(json.dumps(own, indent=1))
        seconds = _call("index", "--workspace", str(home))
        size = (home / "index.html").stat().st_size
        print(f"distmer index of {asked.runs} runs, from start to end: {size / 1e6:.2f} MB, {seconds}")


def _run(folder: Path) -> None:
    """A finished run, as its folder is."""
    plan = factories.plan(
        people=PEOPLE, each=7, lost=68 * 7 - 442, model={"name": "atscnn"}, seeds=tuple(range(5))
    )
    result = replace(factories.result(plan, epochs=200), run_dir=str(folder))
    (folder / "config.yaml").write_text(json.dumps(plan.config.model_dump(mode="json")))
    write_predictions(folder, result.predictions)
    (folder / "curves.json").write_bytes(curves_json(result.folds))
    write_results(folder, result.results)


def _call(*arguments: str) -> str:
    """A command in a process of its own: how long it took, and how much of a core it used."""
    before, command = _used(), [sys.executable, "-m", "distmer.cli", *arguments]
    seconds = _timed(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))
    return f"{seconds:.2f} s, {_used() - before:.2f} s of a core"


def _used() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _timed(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
