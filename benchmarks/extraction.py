"""Extraction, ours against the plain loop: `python -m benchmarks.extraction [--clips 288] [--memory 100 2000]
[--json FILE]`.

Clips are the embedded data set's onset and apex frames, 640×480 px, and the same enlarged to 2040×1088
(padded). Rates: whole processes in turn, start included, and for ours also from the first stored batch to the
last. ``--memory``: the most memory that the whole tree of processes holds at once (proportional set sizes,
half a second apart), each clip with bytes of its own, with the flow method `dis`, for it is the number of
clips that matters.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil

from benchmarks.common import ROOT, Row, keep, machine, paired, wall
from distmer.commands.session import Given, Session
from distmer.config import ClusterConfig
from distmer.types import KeyFrames

SIZES = {"640×480": None, "2040×1088": (2040, 1088)}
_MIB = 2**20


def pairs(home: Path) -> list[tuple[str, str]]:
    """Onset and apex of every clip of the embedded data set, which is generated if it is not there."""
    sources = [clip.source for clip in Session.open(Given(None, (), str(home))).manifest().clips]
    return [(source.onset, source.apex) for source in sources if isinstance(source, KeyFrames)]


def copies(
    known: list[tuple[str, str]], count: int, folder: Path, size: tuple[int, int] | None
) -> list[tuple[str, str]]:
    """A data set of ``count`` clips, each file of its own content, with the manifest.csv of bring-your-own
    clips."""
    folder.mkdir(parents=True)
    made: list[tuple[str, str]] = []
    with (folder / "manifest.csv").open("w", newline="") as file:
        sheet = csv.writer(file)
        sheet.writerow(["subject", "clip", "label", "onset", "apex"])
        for i in range(count):
            names = (f"{i}-onset.jpg", f"{i}-apex.jpg")
            for source, name in zip(known[i % len(known)], names, strict=True):
                image = _fitted(cv2.imread(source), size)
                image[0, 0] = i % 256, i // 256, 0
                cv2.imwrite(str(folder / name), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
                with (folder / name).open("ab") as raw:
                    raw.write(i.to_bytes(4, "big"))  # behind the image's end: other bytes, the same pixels
            sheet.writerow([f"s{i % 10}", f"c{i}", ("a", "b", "c")[i % 3], *names])
            made.append((str(folder / names[0]), str(folder / names[1])))
    return made


def _fitted(image: Any, size: tuple[int, int] | None) -> Any:
    if size is None:
        return image
    width, height = size
    scaled = cv2.resize(
        image, (round(image.shape[1] * height / image.shape[0]), height), interpolation=cv2.INTER_CUBIC
    )
    left = (width - scaled.shape[1]) // 2
    return cv2.copyMakeBorder(scaled, 0, 0, left, width - scaled.shape[1] - left, cv2.BORDER_REPLICATE)


def command(root: Path, home: Path, flow: str) -> list[str]:
    sets = ["data.protocol=folder", f"data.root={root}", f"features.flow={flow}"]
    return [
        sys.executable,
        "jobs/extract.py",
        *(part for one in sets for part in ("--set", one)),
        "--workspace",
        str(home),
    ]


def rate(known: list[tuple[str, str]], clips: int, rounds: int, flow: str, size: str, work: Path) -> Row:
    root = work / f"{size}-{flow}"
    made, steady, looped = copies(known, clips, root, SIZES[size]), list[float](), list[float]()
    listing = work / "pairs.txt"
    listing.write_text("\n".join("\t".join(pair) for pair in made))

    def plain() -> float:
        seconds, out = wall(sys.executable, "-m", "benchmarks.plain.extraction", listing)
        looped.append(clips / json.loads(out)["seconds"])
        return seconds

    def ours() -> float:
        with tempfile.TemporaryDirectory(prefix="features-") as home:
            seconds, stored = _stored(command(root, Path(home), flow), Path(home))
        # From the moment on at which each of the two actors has stored a batch.
        warm = [(at, batches) for at, batches in stored if batches >= 2]
        clips_stored = (warm[-1][1] - warm[0][1]) * ClusterConfig().extract_batch
        steady.append(clips_stored / (warm[-1][0] - warm[0][0]))
        return seconds

    figures = paired(rounds, plain, ours)
    warm = float(np.median(steady))
    return {
        "px": size,
        "our flow": flow,
        "clips": clips,
        **figures,
        "plain's loop, clips/s": float(np.median(looped)),
        "ours, once begun": warm,
        "so": f"{warm / np.median(looped):.2f}",
    }


def _stored(words: list[str], home: Path) -> tuple[float, list[tuple[float, int]]]:
    """Seconds of a whole extraction, and the moments at which the number of stored batches had grown.

    The moments are seen from outside and while it runs, because its last act is to merge the batches' files.
    """
    begun, seen = time.perf_counter(), list[tuple[float, int]]()
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            batches = len(list(home.glob("features/*/parts/*.parquet")))
            if not seen or batches > seen[-1][1]:
                seen.append((time.perf_counter(), batches))
            time.sleep(0.05)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words)
    return time.perf_counter() - begun, seen


def few(known: list[tuple[str, str]], clips: int, rounds: int, flow: str, work: Path) -> Row:
    """Whole processes of so few clips that no Ray is started."""
    root = work / f"few-{flow}"
    listing = work / "few.txt"
    listing.write_text("\n".join("\t".join(pair) for pair in copies(known, clips, root, None)))

    def plain() -> float:
        return wall(sys.executable, "-m", "benchmarks.plain.extraction", listing)[0]

    def ours() -> float:
        with tempfile.TemporaryDirectory(prefix="features-") as home:
            return wall(*command(root, Path(home), flow))[0]

    return {"px": "640×480", "our flow": flow, "clips": clips, **paired(rounds, plain, ours)}


def memory(known: list[tuple[str, str]], clips: int, work: Path) -> Row:
    root = work / f"many-{clips}"
    copies(known, clips, root, None)
    with tempfile.TemporaryDirectory(prefix="features-") as home:
        process = subprocess.Popen(
            command(root, Path(home), "dis"), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        begun, most, driver = time.perf_counter(), 0, 0
        while process.poll() is None:
            now = {p.pid: bytes_held for p, bytes_held in _held(process.pid)}
            most, driver = max(most, sum(now.values())), max(driver, now.get(process.pid, 0))
            time.sleep(0.5)
        seconds = time.perf_counter() - begun
    assert process.returncode == 0
    return {
        "clips": clips,
        "s": seconds,
        "clips/s": clips / seconds,
        "peak MiB, all processes": most / _MIB,
        "of it the driver": driver / _MIB,
    }


def _held(pid: int) -> Iterator[tuple[psutil.Process, int]]:
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with suppress(psutil.Error):
                yield process, int(process.memory_full_info().pss)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=288)
    parser.add_argument("--few", type=int, default=50, help="fewer than 100: extracted without Ray")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--memory", type=int, nargs="*", default=[100, 2000])
    parser.add_argument("--sizes", nargs="*", default=list(SIZES), choices=SIZES)
    parser.add_argument("--json")
    asked = parser.parse_args()
    if asked.clips < 64:
        parser.error(
            "--clips must be 64 or more: the larger frames are a quarter as many, in batches of 4, and the"
            " first two batches do not count"
        )
    begun = machine()
    with tempfile.TemporaryDirectory(prefix="clips-") as folder:
        work = Path(folder)
        known = pairs(Path(os.environ.get("DISTMER_BENCHMARKS", work)))
        rows = [
            rate(known, asked.clips // (1 if size == "640×480" else 4), asked.rounds, "tvl1", size, work)
            for size in asked.sizes
        ]
        rows += [
            rate(known, asked.clips, 1, flow, "640×480", work) for flow in ("tvl1-numpy", "tvl1-fast", "dis")
        ]
        rows += [few(known, asked.few, asked.rounds, flow, work) for flow in ("tvl1", "tvl1-numpy")]
        keep(None, begun, rows)
        held = [memory(known, clips, work) for clips in asked.memory]
    keep(asked.json, begun, held, rates=rows)


if __name__ == "__main__":
    main()
