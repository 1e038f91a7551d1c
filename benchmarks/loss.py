"""The driver killed again and again: `python -m benchmarks.loss --kills 100 --seed 1 [--json FILE]`.

Two kinds of work in turn, each begun in an empty workspace: LOSO on the embedded set (generation, extraction,
folds), and a nested sweep on flow maps. At moments drawn from the seed the command is ended by SIGKILL, its
driver alone or its whole process group, and the same command is given again, until it comes to its end; then
the next. When the kills are used up, the last is left alone.

What was finished at a kill must never be done again (the same files, of the same time), what is found must be
an undisturbed run's to the bit, and nothing may be left: no temporary file, no process. A line a kill, then
the counts; exit status 1 if one is not as it must be. The campaign ends only what it started: processes of
its drivers' sessions, or with its mark in their environment.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from benchmarks.common import keep, machine
from benchmarks.node_loss import features, searched
from distmer.process import terminable
from harness import command, toy

MARK = "DISTMER_LOSS_CAMPAIGN"
_FINISHED = {
    "clips": "data/*/*/**/*.jpg",
    "features": "features/*/parts/*.parquet",
    "folds": "ledger/*/*.parquet",
    "searches": "sweeps/*/searches/*.json",
}
# Folders of Ray's sessions, a cache, and an empty folder that each start of Ray's dashboard leaves, also
# without a kill.
_OF_OTHERS = ("ray", "torchinductor", "pymp-")
# Seconds for what a killed driver had started to end by itself.
_PATIENCE = 180.0
_WHOLE = 900.0  # s for a command that is left alone


@dataclass(frozen=True)
class Work:
    """A command, what must be equal at its end, and how much of each of its phases is done."""

    name: str
    job: str
    arguments: tuple[str, ...]
    found: Callable[[Path], Any]
    phases: tuple[tuple[str, Callable[[Path], int]], ...]


@dataclass
class Round:
    """One workspace, from empty to the end of its command."""

    work: Work
    home: Path
    mark: str = field(default_factory=lambda: secrets.token_hex(8))
    # kind → file → its time
    seen: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    sessions: set[int] = field(default_factory=set[int])  # of processes: those of its drivers
    repeated: Counter[str] = field(default_factory=Counter[str])

    @property
    def temp(self) -> Path:
        return self.home.parent / f"{self.home.name}-t"  # short: Ray makes sockets in it

    def start(self) -> subprocess.Popen[bytes]:
        self.temp.mkdir(exist_ok=True)
        env = command.environment(
            self.home, TMPDIR=str(self.temp), PYTHONPATH=str(command.ROOT), **{MARK: self.mark}
        )
        job = [sys.executable, str(command.ROOT / "jobs" / self.work.job), *self.work.arguments]
        with (self.home.parent / f"{self.home.name}.log").open("ab") as log:
            process = subprocess.Popen(
                job, cwd=command.ROOT, env=env, stdout=log, stderr=log, start_new_session=True
            )
        self.sessions.add(process.pid)
        return process

    def processes(self) -> list[psutil.Process]:
        """Whatever is of a session of ours, or has this round's mark. Ray's workers write over their
        environment."""
        ours = []
        for process in psutil.process_iter():
            try:
                ours_by_session = os.getsid(process.pid) in self.sessions
                if process.status() != psutil.STATUS_ZOMBIE and (
                    ours_by_session or process.environ().get(MARK) == self.mark
                ):
                    ours.append(process)
            except (psutil.Error, OSError):
                continue
        return ours

    def all_ended(self) -> float | None:
        """Seconds until no process of this round is left; None where some had to be ended."""
        begun = time.monotonic()
        while time.monotonic() - begun < _PATIENCE:
            if not self.processes():
                return time.monotonic() - begun
            time.sleep(0.1)
        for process in self.processes():
            print(f"still there: {process.pid} {' '.join(process.cmdline())[-120:]}", flush=True)
        self.end()
        return None

    def end(self) -> None:
        for process in self.processes():
            process.kill()

    def look(self) -> dict[str, int]:
        """How far each phase is, and whether anything that was finished has been done again or is gone."""
        for kind, pattern in _FINISHED.items():
            there = {str(path): path.stat().st_mtime_ns for path in self.home.glob(pattern)}
            before = self.seen.setdefault(kind, {})
            self.repeated[kind] += sum(there.get(path) != at for path, at in before.items())
            before |= there
        self.repeated["features in two parts"] = max(
            self.repeated["features in two parts"], self._extracted_twice()
        )
        return {name: done(self.home) for name, done in self.work.phases}

    def _extracted_twice(self) -> int:
        keys = Counter[str]()
        for path in self.home.glob(_FINISHED["features"]):
            keys.update(pq.read_table(path, columns=["key"])["key"].to_pylist())
        return sum(times - 1 for times in keys.values())

    def trained_twice(self) -> int:
        """Folds that were told as finished by training more than once."""
        told = Counter[str]()
        for path in self.home.glob("runs/*/events.jsonl"):
            for line in path.read_text().splitlines():
                event = json.loads(line)
                if event["event"] == "fold_finished" and not event["cached"]:
                    told[event["digest"]] += 1
        return sum(times - 1 for times in told.values())

    def leftovers(self) -> list[str]:
        """Temporaries in the workspace and in the folder for temporary files, without what Ray and torch keep
        there."""
        found = [str(path) for kind in ("*.tmp", "*.partial") for path in self.home.rglob(f".{kind}")]
        found += [str(path) for path in self.home.glob("scratch/*")]
        return found + [str(path) for path in self.temp.iterdir() if not path.name.startswith(_OF_OTHERS)]


def count(pattern: str) -> Callable[[Path], int]:
    return lambda home: len(list(home.glob(pattern)))


def works(folder: Path) -> list[Work]:
    quiet = [
        "tracking.enabled=false",
        "data.synthetic.subjects=6",
        "data.synthetic.clips_per_subject=5",
        "cluster.extract_batch=2",
    ]
    chosen = [
        *quiet,
        "features.size=64",
        "model.size=64",
        "train.epochs=12",
        "train.batch_size=8",
        "evaluation.bootstrap=200",
    ]
    maps = toy.write_flowmaps(folder / "maps", subjects=6)
    return [
        Work(
            "LOSO",
            "loso.py",
            tuple(part for setting in chosen for part in ("--set", setting)),
            lambda home: (command.predictions(home), features(home)),
            (
                ("generation", count(_FINISHED["clips"])),
                ("extraction", lambda home: len(features(home))),
                ("folds", count(_FINISHED["folds"])),
            ),
        ),
        Work(
            "sweep",
            "tune.py",
            (str(toy.sweep_file(folder, maps, train={"epochs": 60})),),
            searched,
            (("extraction", lambda home: len(features(home))), ("sweep", count(_FINISHED["folds"]))),
        ),
    ]


def undisturbed(work: Work, home: Path) -> tuple[dict[str, int], Any, float]:
    """What an undisturbed run ends with, and its seconds."""
    calm, begun = Round(work, home), time.perf_counter()
    try:
        code = calm.start().wait(_WHOLE)
        assert code == 0, f"{work.name} undisturbed: exit status {code}; see {home}.log"
    finally:
        calm.end()
    seconds = time.perf_counter() - begun
    print(
        f"{work.name} undisturbed: {seconds:.1f} s, {calm.look()}, load {os.getloadavg()[0]:.1f}", flush=True
    )
    return calm.look(), work.found(home), seconds


def killed(this: Round, delay: float, whole_group: bool, goal: dict[str, int]) -> dict[str, Any] | None:
    """One try that is killed after ``delay`` s; None when it came to its end before."""
    process = this.start()
    try:
        code = process.wait(delay)
        assert code == 0, f"{this.work.name}: exit status {code}; see {this.home}.log"
        return None
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL) if whole_group else process.kill()
        process.wait()
    gone = this.all_ended()
    done = this.look()
    phase = next((name for name, wanted in goal.items() if done[name] < wanted), "end")
    row: dict[str, Any] = {
        "work": this.work.name,
        "phase": phase,
        "kind": "group" if whole_group else "driver",
        "after s": delay,
    }
    return {**row, "others gone s": gone, "left processes": gone is None, **done}


def concluded(this: Round, found: Any) -> dict[str, Any]:
    """The figures of a round whose command has come to its end."""
    ended = this.all_ended()
    this.look()
    left = this.leftovers()
    result = {"work": this.work.name, "repeated": dict(this.repeated), "trained twice": this.trained_twice()}
    sessions = list((this.temp / "ray").glob("session_2*"))
    size = sum(path.lstat().st_size for session in sessions for path in session.rglob("*") if path.is_file())
    rays = {"folders": len(sessions), "MB": round(size / 1e6, 1)}
    result |= {
        "identical": this.work.found(this.home) == found,
        "leftovers": left,
        "processes left": ended is None,
        "Ray's sessions": rays,
    }
    print(json.dumps(result), flush=True)
    return result


def good(rounds: list[dict[str, Any]], rows: list[dict[str, Any]]) -> bool:
    done_again = any(sum(r["repeated"].values()) or r["trained twice"] for r in rounds)
    left = any(r["leftovers"] or r["processes left"] for r in rounds) or any(
        row["left processes"] for row in rows
    )
    return all(r["identical"] for r in rounds) and not done_again and not left


def campaign(asked: argparse.Namespace, folder: Path) -> bool:
    rng, begun = random.Random(asked.seed), machine()
    chosen = [work for work in works(folder) if asked.only in (None, work.name)]
    calm = {work.name: undisturbed(work, folder / f"calm{n}") for n, work in enumerate(chosen)}
    rows, rounds, kills = list[dict[str, Any]](), list[dict[str, Any]](), Counter[str]()
    while len(rows) < asked.kills:
        work = chosen[len(rounds) % len(chosen)]
        goal, found, _ = calm[work.name]
        this = Round(work, folder / f"r{len(rounds)}")
        try:
            while len(rows) < asked.kills:
                row = killed(this, rng.uniform(asked.shortest, asked.longest), rng.random() < 0.5, goal)
                if row is None:
                    break
                rows.append({"n": len(rows) + 1, **row})
                print(json.dumps(rows[-1]), flush=True)
            else:  # left alone
                code = this.start().wait(_WHOLE)
                assert code == 0, f"{work.name}: exit status {code}; see {this.home}.log"
            rounds.append(concluded(this, found))
        finally:
            this.end()
        kills = Counter(f"{row['phase']}, {row['kind']}" for row in rows)
        seconds = {name: seconds for name, (_, _, seconds) in calm.items()}
        told = {
            "seed": asked.seed,
            "undisturbed s": seconds,
            "kills": dict(kills),
            "rounds": rounds,
            "good": good(rounds, rows),
        }
        if asked.json:
            keep(asked.json, begun, rows, **told)
    print(
        json.dumps(
            {"kills": dict(kills), "in all": len(rows), "rounds": len(rounds), "good": good(rounds, rows)}
        ),
        flush=True,
    )
    return good(rounds, rows)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--shortest", type=float, default=3.0, help="seconds from a start to its kill, at least"
    )
    parser.add_argument("--longest", type=float, default=30.0, help="and at most")
    parser.add_argument("--only", choices=("LOSO", "sweep"))
    parser.add_argument("--json")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="loss-", dir="/tmp"))
    with terminable():
        good = campaign(asked, folder)
    if good:
        shutil.rmtree(folder)
    else:
        print(f"what was found lies in {folder}", flush=True)
    return not good


if __name__ == "__main__":
    sys.exit(main())
