"""A fault that passes (no memory, a disk that stumbles) is told, not stored, and ends no run;
`--retry-failed` tries stored ones again."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from distmer.config import FeatureConfig
from distmer.features import pipeline
from distmer.features.pipeline import FeatureRequest, extract
from distmer.types import BadInput, FlowMap, RunError
from harness import toy
from tests.saying import Said, Say, home, on_maps, run, settings

FAULTS = {
    # any cv2.error
    "OpenCV has no memory": lambda: cv2.cvtColor(np.zeros((2, 2, 7), np.uint8), cv2.COLOR_BGR2GRAY),
    "no memory": lambda: np.empty(2**60, np.uint8),
    "the disk": lambda: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")),
    "unforeseen": lambda: {}["nothing"],
}


def fault_in(monkeypatch: pytest.MonkeyPatch, name: str, fault: Callable[[], object]) -> None:
    """Decoding the map of this name meets the fault."""
    decode = pipeline.decode_flow_map

    def decoding(data: bytes, of: str) -> object:
        if of == name:
            next(iter(fault()))  # type: ignore[call-overload]
        return decode(data, of)

    monkeypatch.setattr(pipeline, "decode_flow_map", decoding)


@pytest.fixture
def own_maps(tmp_path: Path) -> Path:
    return toy.write_flowmaps(tmp_path / "maps", subjects=3, each=3)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_one_clip_that_meets_a_fault_is_a_row_and_the_next_run_tries_again(
    fault: Callable[[], object], say: Say, own_maps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as faulty:
        fault_in(faulty, "sub01_EP00_01f .png", fault)
        said = run(say, *on_maps(own_maps))
    assert (said.code, said.json["clips_used"], said.json["clips_expected"]) == (0, 8, 9)
    (failed,) = said.json["failed"]
    assert (
        "sub01" in failed["clip"]
        and "nothing is stored of it, and the next run tries this clip again." in failed["reason"]
    )
    again = run(say, *on_maps(own_maps))
    assert (again.code, again.json["clips_used"], again.json["failed"]) == (0, 9, [])


@pytest.mark.parametrize("error", [BadInput("no landmark model."), RunError("the storage is away.")])
def test_what_concerns_every_clip_ends_the_extraction(
    error: Exception, own_maps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = next(own_maps.rglob("*.png"))
    fault_in(monkeypatch, path.name, lambda: (_ for _ in ()).throw(error))
    with pytest.raises(type(error)):
        extract(FeatureRequest("d/s/c", FlowMap(str(path))), FeatureConfig())


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_an_image_for_which_memory_is_short_is_no_broken_image(suffix: str, tmp_path: Path) -> None:
    """OpenCV raises, or (WebP) says as little as of bytes that are no image."""
    image_HW3 = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8)
    (tmp_path / f"map{suffix}").write_bytes(cv2.imencode(suffix, image_HW3)[1].tobytes())
    code = (
        "import resource, sys; from distmer.config import FeatureConfig; from distmer.features.pipeline"
        " import *;"
        "from distmer.types import FlowMap;"
        "size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize();"
        "resource.setrlimit(resource.RLIMIT_AS, (size + 12 * 2**20, resource.RLIM_INFINITY));"
        "row = extract(FeatureRequest('d/s/c', FlowMap(sys.argv[1])), FeatureConfig());"
        "print(row.status, repr(row.key), row.error)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / f"map{suffix}")],
        check=True,
        text=True,
        capture_output=True,
    ).stdout
    assert told.startswith("failed '' the extraction broke off (MemoryError: "), told


def stored(say: Say, maps: Path, *more: str) -> Said:
    return say("features", "--local", *more, *settings(*on_maps(maps)))


def test_stored_failures_are_tried_again_when_asked_for(
    say: Say, own_maps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = sorted(own_maps.rglob("*.png"))
    paths[1].write_bytes(b"no image")
    with monkeypatch.context() as older:  # a version that took a fault for the clip's own

        def faulty(*_: object) -> None:
            raise pipeline.ClipError("no face found.")

        fault_in(older, paths[0].name, faulty)
        assert "not usable" in stored(say, own_maps).out
    before = stored(say, own_maps)
    assert "9 clips: 0 extracted, 9 were there." in before.out and before.out.count("not usable") == 2
    again = stored(say, own_maps, "--retry-failed")
    assert (
        "9 clips: 2 extracted, 7 were there." in again.out
        and again.out.count("not usable") == 1
        and "no face" not in again.out
    )
    after = stored(say, own_maps)
    assert "9 clips: 0 extracted, 9 were there." in after.out and after.out.count("not usable") == 1
    ran = say("run", "--local", "--json", "--retry-failed", *settings(*on_maps(own_maps)))
    assert ran.json["clips_used"] == 8 and "extracting features 9/9" in ran.err and "8 cached" in ran.err
    assert (home(tmp_path) / "runs").is_dir()
    file = tmp_path / "rows.yaml"
    file.write_text("compare: {rows: {linear: {}, svm: {model.name: svm}}}\n")
    compared = say("compare", str(file), "--local", "--retry-failed", *settings(*on_maps(own_maps)))
    shown = [line for line in compared.err.splitlines() if line.startswith("extracting features 9/9")]
    # once for both rows
    assert compared.code == 0 and ["8 cached" in line for line in shown] == [True, False], compared.err
    refused = say("compare", str(home(tmp_path) / "runs"), "--retry-failed")
    assert refused.code == 2 and "finished runs are only read" in refused.err
