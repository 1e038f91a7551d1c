"""Features on Ray Data: the rows of the plain loop to the bit, and a killed actor loses none."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from distmer.cluster.connect import session
from distmer.config import ClusterConfig, DataConfig, FeatureConfig, SyntheticConfig
from distmer.datasets import load_manifest
from distmer.features.pipeline import FeatureRequest, extract
from distmer.features.row import FeatureRow
from distmer.types import KeyFrames
from tests.factories import same_features

pytestmark = pytest.mark.slow

CONFIG = FeatureConfig(flow="dis")
CLUSTER = ClusterConfig(local_cpus=2, extract_actors=2, extract_batch=1)


@pytest.fixture(scope="module", autouse=True)
def ray_of_two_cpus() -> Iterator[None]:
    with session(CLUSTER):
        yield


@pytest.fixture(scope="module")
def requests(tmp_path_factory: pytest.TempPathFactory) -> list[FeatureRequest]:
    data = DataConfig(protocol="synthetic", synthetic=SyntheticConfig(subjects=3, clips_per_subject=4))
    clips = load_manifest(data, tmp_path_factory.mktemp("data")).clips
    return [FeatureRequest(clip.id, clip.source) for clip in clips]


def on_ray(requests: list[FeatureRequest]) -> Iterator[list[FeatureRow]]:
    from distmer.cluster.features import extract_on_ray

    return extract_on_ray(requests, CONFIG, CLUSTER)


def test_ray_gives_the_rows_of_the_loop_and_a_bad_clip_is_a_row(
    requests: list[FeatureRequest], tmp_path: Path
) -> None:
    source = requests[0].source
    assert isinstance(source, KeyFrames)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    bad = [
        FeatureRequest("x/y/missing", replace(source, apex=str(tmp_path / "gone.jpg"))),
        FeatureRequest("x/y/broken", replace(source, apex=str(tmp_path / "broken.jpg"))),
    ]
    rows = {row.clip_id: row for batch in on_ray([*requests, *bad]) for row in batch}
    assert rows.keys() == {request.clip_id for request in (*requests, *bad)}
    for request in (*requests, *bad):
        assert same_features(rows[request.clip_id], extract(request, CONFIG)), request.clip_id
    assert [rows[b.clip_id].status for b in bad] == ["failed", "failed"]
    assert all(rows[r.clip_id].status == "ok" for r in requests)


def test_a_killed_actor_loses_no_clip(requests: list[FeatureRequest]) -> None:
    many = [FeatureRequest(f"{r.clip_id}-{i}", r.source) for i in range(12) for r in requests]
    rows: list[FeatureRow] = []
    killed = 0
    for batch in on_ray(many):
        rows += batch
        if len(rows) >= 5 and not killed:
            actors = [
                p for p in psutil.Process().children(recursive=True) if p.name().startswith("ray::MapWorker")
            ]
            busy = [p for p in actors if p.is_running() and p.memory_info().rss]
            killed = busy[0].pid
            os.kill(killed, signal.SIGKILL)
    assert killed
    assert sorted(row.clip_id for row in rows) == sorted(request.clip_id for request in many)
    assert all(row.status == "ok" for row in rows)
