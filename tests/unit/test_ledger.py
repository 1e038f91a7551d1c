"""The ledger: what goes in comes out, half an entry is none, and a write that fails leaves no trace."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distmer.experiment.ledger import Ledger, from_parquet, remove_checkpoints, to_parquet
from distmer.experiment.local import LocalBackend
from distmer.storage import files, place, write
from distmer.training.fit import fit_fold
from distmer.types import BadInput, FoldResult
from harness import toy


@pytest.fixture(scope="module")
def result() -> FoldResult:
    clips = toy.clips()
    return fit_fold(
        toy.jobs(toy.config(train={"selection": "oracle", "oracle": "global_epoch"}), clips)[0],
        toy.inputs(clips),
    )


def equal(a: FoldResult, b: FoldResult) -> bool:
    arrays = [
        (a.predictions.prob_NK, b.predictions.prob_NK),
        (a.predictions.y_true_N, b.predictions.y_true_N),
    ]
    if a.epoch_prob_ENK is not None or b.epoch_prob_ENK is not None:
        arrays.append((np.asarray(a.epoch_prob_ENK), np.asarray(b.epoch_prob_ENK)))
    plain = [
        (r.digest, r.fold_id, r.seed, r.epochs, dict(r.curves), r.seconds, r.device, r.predictions.clip_ids)
        for r in (a, b)
    ]
    return plain[0] == plain[1] and all(np.array_equal(x, y) for x, y in arrays)


def test_an_entry_comes_back_to_the_bit(result: FoldResult, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.put(result)
    kept = ledger.get(result.digest)
    assert kept is not None
    assert equal(kept, result)
    assert ledger.get("0" * 64) is None
    assert ledger.known([result.digest, "0" * 64]).keys() == {result.digest}


@given(cut=st.floats(0, 0.999))
def test_half_an_entry_is_none(cut: float, result: FoldResult) -> None:
    whole = to_parquet(result)
    with pytest.raises((ValueError, KeyError)):  # ArrowInvalid is a ValueError
        from_parquet(whole[: int(len(whole) * cut)])


def test_a_damaged_entry_is_said_and_the_fold_trained_again(
    result: FoldResult, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger(tmp_path)
    ledger.put(result)
    (path,) = tmp_path.glob("*/*.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    assert ledger.get(result.digest) is None
    assert "is damaged" in caplog.text
    assert str(path) in caplog.text
    ledger.put(result)
    assert ledger.get(result.digest) is not None


def test_a_write_that_fails_leaves_no_trace_and_what_was_there_stays(
    result: FoldResult, tmp_path: Path
) -> None:
    """A real failure of the system call: the process may not write files above 1 kB."""
    Ledger(tmp_path).put(result)
    code = f"""
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
from dataclasses import replace
from pathlib import Path
from distmer.experiment.ledger import Ledger, from_parquet
from distmer.types import RunError
(path,) = Path({str(tmp_path)!r}).glob("*/*.parquet")
result = from_parquet(path.read_bytes())
try:
    Ledger(Path({str(tmp_path)!r})).put(replace(result, digest="f" * 64))
except RunError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "the ledger cannot be written (File too large)" in said
    assert len([p for p in tmp_path.rglob("*") if p.is_file()]) == 1
    assert Ledger(tmp_path).get(result.digest) is not None


def test_two_writers_of_one_fold_leave_one_whole_entry(result: FoldResult, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for seconds in (1.0, 2.0):
        ledger.put(replace(result, seconds=seconds))
    kept = ledger.get(result.digest)
    assert kept is not None
    assert kept.seconds == 2.0
    assert list(files(tmp_path)) == [f"{result.digest[:2]}/{result.digest}.parquet"]


def test_a_store_that_is_no_address_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nowhere://x: not a storage address"):
        place("nowhere://x")
    assert files(tmp_path / "not there") == {}


def test_failures_of_a_model_do_not_end_a_run() -> None:
    clips = toy.clips()
    jobs = toy.jobs(toy.config(), clips)
    broken = replace(
        jobs[0], spec={**jobs[0].spec, "model": {"name": "atscnn", "options": {"hidden": -1, "size": 16}}}
    )
    kinds = [type(report).__name__ for report in LocalBackend().train([broken, jobs[1]], toy.inputs(clips))]
    assert kinds == ["FoldBegun", "FoldFailure", "FoldBegun", "FoldResult"]


def test_checkpoints_of_folds_that_are_kept_go(result: FoldResult, tmp_path: Path) -> None:
    ledger, scratch = Ledger(tmp_path / "ledger"), tmp_path / "scratch"
    assert remove_checkpoints(scratch, ledger).number == 0
    ledger.put(result)
    done, under_way, forgotten = (scratch / digest for digest in (result.digest, "0" * 64, "1" * 64))
    for folder in (done, under_way, forgotten, scratch / "somebody's"):
        (folder / "checkpoint").mkdir(parents=True)
        (folder / "checkpoint" / "state.pt").write_bytes(b"x" * 100)
    for path in (forgotten / "checkpoint" / "state.pt", forgotten / "checkpoint", forgotten):
        os.utime(path, (0, 0))
    removed = remove_checkpoints(scratch, ledger)
    assert (removed.number, removed.size) == (2, 200)
    assert sorted(path.name for path in scratch.iterdir()) == [under_way.name, "somebody's"]


def test_checkpoints_on_an_object_store(result: FoldResult, remote: str) -> None:
    ledger, scratch = Ledger(place(f"{remote}/ledger")), place(f"{remote}/scratch")
    ledger.put(result)
    for digest in (result.digest, "0" * 64):
        write(scratch / digest / "state.pt", b"x")
    assert remove_checkpoints(scratch, ledger).number == 1
    assert list(files(scratch)) == ["0" * 64 + "/state.pt"]
