"""Extraction by processes of this machine: the bits of the loop, and no death of a process ends it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from distmer.config import ClusterConfig, DataConfig, FeatureConfig, Named, SyntheticConfig
from distmer.datasets import load_manifest
from distmer.experiment.processes import describe_extraction, extract_in_processes, stays_here
from distmer.features.pipeline import FeatureRequest, extract
from distmer.features.row import FeatureRow
from distmer.types import BadInput, KeyFrames
from tests.factories import same_features

CONFIG = FeatureConfig(flow=Named(name="dis"))
CLUSTER = ClusterConfig(local_cpus=2, extract_batch=3)

DEADLY = """
import os, signal
from pathlib import Path
import numpy as np

def flow(onset_HW, apex_HW):
    print("a user's own words")
    once = Path(__file__).with_name("once")
    if apex_HW.max() < 9 or once.exists():
        once.unlink(missing_ok=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    return np.zeros((*onset_HW.shape, 2), np.float32)
"""


@pytest.fixture(scope="module")
def requests(tmp_path_factory: pytest.TempPathFactory) -> list[FeatureRequest]:
    data = DataConfig(protocol="synthetic", synthetic=SyntheticConfig(subjects=3, clips_per_subject=2))
    clips = load_manifest(data, tmp_path_factory.mktemp("data")).clips
    return [FeatureRequest(clip.id, clip.source) for clip in clips]


def rows_of(requests: Sequence[FeatureRequest], config: FeatureConfig) -> dict[str, FeatureRow]:
    batches = list(extract_in_processes(requests, config, CLUSTER))
    assert all(len(batch) <= CLUSTER.extract_batch for batch in batches)
    rows = [row for batch in batches for row in batch]
    assert sorted(row.clip_id for row in rows) == sorted(request.clip_id for request in requests)
    return {row.clip_id: row for row in rows}


def with_apex(request: FeatureRequest, apex: Path, name: str) -> FeatureRequest:
    assert isinstance(request.source, KeyFrames)
    return FeatureRequest(f"x/y/{name}", replace(request.source, apex=str(apex)))


def test_processes_give_the_rows_of_the_loop_and_a_bad_clip_is_a_row(
    requests: list[FeatureRequest], tmp_path: Path
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    bad = [with_apex(requests[0], tmp_path / f"{name}.jpg", name) for name in ("gone", "broken")]
    rows = rows_of([*requests, *bad], CONFIG)
    for request in (*requests, *bad):
        assert same_features(rows[request.clip_id], extract(request, CONFIG)), request.clip_id
    assert {row.status for row in rows.values()} == {"ok", "failed"}


def test_a_clip_that_kills_its_process_is_a_row_and_a_death_of_another_reason_loses_none(
    requests: list[FeatureRequest], tmp_path: Path
) -> None:
    (tmp_path / "deadly_flow.py").write_text(DEADLY)
    (tmp_path / "once").touch()
    source = requests[0].source
    assert isinstance(source, KeyFrames)
    black = np.zeros_like(cv2.imread(source.apex))
    cv2.imwrite(str(tmp_path / "black.png"), black)
    bad = with_apex(requests[0], tmp_path / "black.png", "black")
    config = FeatureConfig(flow=Named(name=f"{tmp_path / 'deadly_flow.py'}:flow"))
    rows = rows_of([*requests[:2], bad, *requests[2:]], config)
    failed = rows.pop("x/y/black")
    assert (failed.status, failed.key) == ("failed", "") and "SIGSEGV" in failed.error
    assert [row.status for row in rows.values()] == ["ok"] * len(requests)
    assert not (tmp_path / "once").exists()


def test_what_concerns_every_clip_is_raised(requests: list[FeatureRequest], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="landmarks"):
        rows_of(requests, CONFIG.model_copy(update={"landmarks": str(tmp_path / "gone.dat")}))


def test_many_clips_and_clusters_are_for_ray() -> None:
    assert stays_here(99, CLUSTER, {}) and stays_here(99, CLUSTER, {"RAY_ADDRESS": "local"})
    assert not stays_here(100, CLUSTER, {})
    assert not stays_here(1, CLUSTER, {"RAY_ADDRESS": "auto"})
    assert not stays_here(1, CLUSTER.model_copy(update={"address": "head:6379"}), {})
    assert describe_extraction(1, CLUSTER, {}) == "by a process of this machine"
    assert describe_extraction(99, CLUSTER, {}) == "by 2 processes of this machine"
    assert describe_extraction(100, CLUSTER, {}) == "on Ray"
