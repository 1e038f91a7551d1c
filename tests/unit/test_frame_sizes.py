"""CASME's two sections, 1280 × 720 and 640 × 480: a face is read alike in both."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from distmer.config import FeatureConfig
from distmer.features.pipeline import FeatureRequest, extract
from distmer.features.row import FeatureRow
from tests.fixtures.dataset_loading import by_id, load
from tests.fixtures.further_layouts import casme_sections


def test_both_sections_of_casme_give_the_same_features(tmp_path: Path) -> None:
    clips = by_id(load("casme", casme_sections(tmp_path)))
    rows: dict[str, FeatureRow] = {}
    for name, size in (("casme/sub01/EP01_5", (720, 1280)), ("casme/sub02/EP03_1", (480, 640))):
        source = clips[name].source
        assert cv2.imread(source.images[0], cv2.IMREAD_GRAYSCALE).shape == size  # type: ignore[union-attr]
        rows[name] = extract(FeatureRequest(name, source), FeatureConfig.model_validate({"flow": "dis"}))
    a, b = rows.values()
    assert a.status == b.status == "ok", (a.error, b.error)
    onsets = [row.channels["onset"].ravel() for row in (a, b)]
    assert np.corrcoef(*onsets)[0, 1] > 0.98  # the same face in the same place
    moved = [float(np.hypot(*np.moveaxis(flow, -1, 0)).mean()) for flow in (a.flow_HW2, b.flow_HW2)]
    # In px of the crop, so the frame's size is no part of the amplitude.
    assert np.abs(a.flow_HW2 - b.flow_HW2).mean() < 0.25 * moved[1]
