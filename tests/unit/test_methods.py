"""Flows and strains: distmer's own and the user's come in by one door, and are part of the feature key."""

from __future__ import annotations

from pathlib import Path

import cv2
import dlib
import numpy as np
import pytest

from distmer.config import FeatureConfig
from distmer.digests import digest
from distmer.features.landmarks import model_hash, model_path
from distmer.features.methods import methods, portable, try_methods
from distmer.features.pipeline import FEATURE_EPOCH, FeatureRequest, clip_key, extract, extraction
from distmer.sweep.space import Space
from distmer.types import BadInput, KeyFrames
from tests.imports import forget
from tests.saying import Say, settings

OWN = '''"""A lab's flow and strain."""
import numpy as np
from own_flow_helper import shift


def constant(onset_HW, apex_HW, u: float = 1.5, v: float = 0.0):
    """The same motion everywhere."""
    return np.full((*onset_HW.shape, 2), (u, v), np.float32) + np.float32(shift())


class Magnitude:
    def __init__(self, factor: float = 1.0):
        self.factor = factor

    def __call__(self, flow_HW2):
        return np.float32(self.factor) * np.hypot(flow_HW2[..., 0], flow_HW2[..., 1])
'''
HELPER = "def shift():\n    return 0\n"


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    (tmp_path / "lab").mkdir()
    write(tmp_path / "lab")
    return tmp_path / "lab"


def write(lab: Path, flow: str = OWN, helper: str = HELPER) -> None:
    (lab / "own_flow.py").write_text(flow)
    (lab / "own_flow_helper.py").write_text(helper)
    forget(lab)


def config(lab: Path, size: int = 32, **options: object) -> FeatureConfig:
    flow = {"name": f"{lab}/own_flow.py:constant", **options}
    return FeatureConfig.model_validate({"size": size, "flow": flow})


def key(cfg: FeatureConfig) -> str:
    return clip_key(KeyFrames("onset", "apex"), cfg, lambda path: path)


def test_the_key_of_distmers_own_is_what_it_was_before_there_were_others() -> None:
    before = {
        "kind": "key-frames",
        "frames": ["onset", "apex"],
        "epoch": FEATURE_EPOCH,
        "extraction": {
            "size": 128,
            "flow": "tvl1-fast",
            "stabilise": True,
            "strain": "meb",
            "detector_side": 320,
        },
        "landmarks": model_hash(model_path(None)),
        "opencv": ".".join(cv2.__version__.split(".")[:2]),
        "dlib": dlib.__version__.split(".")[0],
    }
    assert key(FeatureConfig.model_validate({"flow": "tvl1-fast", "strain": "meb"})) == digest(before)


def test_the_key_of_ones_own_follows_options_and_every_file_of_it_and_no_path(lab: Path) -> None:
    first = key(config(lab))
    assert key(config(lab, u=1.5)) == first  # the default, spelled out
    assert key(config(lab, u=2)) != first
    assert str(lab) not in str(extraction(config(lab))) and str(lab) not in str(portable(config(lab)))
    assert key(portable(config(lab))) == first
    write(lab, helper="# another comment\n" + HELPER)
    assert key(config(lab)) == first
    write(lab, helper=HELPER.replace("0", "1"))
    assert key(config(lab)) != first
    strained = FeatureConfig.model_validate({"size": 32, "strain": f"{lab}/own_flow.py:Magnitude"})
    assert extraction(strained)["flow"] == "tvl1"
    assert extraction(strained)["strain"]["code"].keys() == {"own_flow", "own_flow_helper"}


def test_ones_own_is_called_with_its_options(lab: Path) -> None:
    cfg = FeatureConfig.model_validate(
        {
            "size": 32,
            "flow": {"name": f"{lab}/own_flow.py:constant", "u": 3, "v": -4},
            "strain": {"name": f"{lab}/own_flow.py:Magnitude", "factor": 2},
        }
    )
    try_methods(cfg)
    crop_HW = np.zeros((32, 32), np.uint8)
    flow_HW2 = methods(cfg).flow(crop_HW, crop_HW)
    assert flow_HW2.shape == (32, 32, 2) and (flow_HW2 == (3, -4)).all()
    assert (methods(cfg).strain(flow_HW2) == 10).all()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return onset_HW", r"an array \(32, 32\) of uint8; return a NumPy array \(32, 32, 2\) of float32"),
        ("return np.zeros((*onset_HW.shape, 2))", r"an array \(32, 32, 2\) of float64; return"),
        ("return [1.0]", "answered with a list; return"),
        ("return np.full((*onset_HW.shape, 2), np.nan, np.float32)", "values that are no numbers"),
        ("return 1 / 0", r"ZeroDivisionError \(division by zero\) in .*own_flow.py, line 6; correct"),
        ("return np.random.rand(*onset_HW.shape, 2).astype(np.float32)", "other numbers the second time"),
        (
            "constant.most = max(getattr(constant, 'most', 0), int(abs(apex_HW - 1.0 * onset_HW).mean()))\n"
            "    return np.full((*onset_HW.shape, 2), constant.most, np.float32)",
            "let it keep nothing from one clip to the next",
        ),
        ("onset_HW[:] = 0\n    return np.zeros((*onset_HW.shape, 2), np.float32)", ""),
    ],
)
def test_ones_own_is_tried_first_and_refused_in_one_sentence(lab: Path, body: str, said: str) -> None:
    write(
        lab,
        f"import numpy as np\nfrom own_flow_helper import shift\n\n\ndef constant(onset_HW, apex_HW):\n"
        f"    {body}\n",
    )
    if not said:  # what it does to its arguments, it does to copies
        try_methods(config(lab))
        return
    with pytest.raises(BadInput, match=f"^flow own_flow:constant:? .*{said}") as told:
        try_methods(config(lab))
    assert "\n" not in str(told.value) and str(told.value).endswith(".")


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("features.flow=tvl", "unknown flow 'tvl'; did you mean 'tvl1'?"),
        ("features.strain=standart", "unknown strain 'standart'; did you mean 'standard'?"),
        ("features.flow={name: tvl1, tau: 1}", "features.flow.tau is not a setting"),
        (
            "features.flow={name: LAB/own_flow.py:constant, w: 1}",
            "features.flow.w is not a setting; known: u, v.",
        ),
        ("features.flow=LAB/own_flow.py:constnt", "has no 'constnt'; did you mean 'constant'?"),
        ("features.flow=LAB/own_flow.py:shift", "it takes 0 arguments by position, and distmer gives it 2"),
    ],
)
@pytest.mark.parametrize("command", ["run", "features"])
def test_a_mistake_is_told_before_a_clip_is_made(
    say: Say, lab: Path, tmp_path: Path, command: str, setting: str, sentence: str
) -> None:
    ended = say(command, "--local", "--set", setting.replace("LAB", str(lab)))
    assert ended.code == 2 and sentence in ended.sentence
    assert not (tmp_path / "home" / "data").exists()


def test_a_clip_on_which_it_raises_fails_alone(lab: Path, say: Say) -> None:
    """Of the embedded clips, the plug-in refuses those whose onset is dark."""
    refuse = """
def picky(onset_HW, apex_HW, darkest: int = 0):
    if onset_HW.mean() < darkest:
        raise ValueError("too dark")
    return constant(onset_HW, apex_HW)
"""
    write(lab, OWN + refuse)
    small = ["data.synthetic.subjects=3", "data.synthetic.clips_per_subject=2", "features.size=32"]
    name = f"{lab}/own_flow.py:picky"
    first = say("features", "--local", *settings(*small, f"features.flow={{name: {name}, darkest: 118}}"))
    again = say("features", "--local", *settings(*small, f"features.flow={{name: {name}, darkest: 118}}"))
    assert first.code == again.code == 0
    failed = [line for line in first.out.splitlines() if "too dark" in line]
    assert 0 < len(failed) < 6, first.out
    assert f"raised ValueError (too dark) in {lab}/own_flow.py, line" in failed[0]
    # nothing is stored of them: an edit elsewhere, or more memory, may do better
    assert f"{len(failed)} extracted" in again.out
    healthy = say("features", "--local", *settings(*small, f"features.flow={{name: {name}, darkest: 0}}"))
    assert "not usable" not in healthy.out


def test_what_an_own_flow_does_to_the_crops_is_not_stored(lab: Path, tmp_path: Path) -> None:
    write(lab, OWN.replace("    return np.full", "    onset_HW[:] = apex_HW[:] = 7\n    return np.full"))
    from tests.unit.test_features import _scene

    path = str(tmp_path / "on.png")
    assert cv2.imwrite(path, _scene())
    row = extract(FeatureRequest("d/s/c", KeyFrames(path, path)), config(lab, size=64))
    assert row.channels["onset"].std() > 20


def test_a_sweep_chooses_flows_and_their_options(lab: Path) -> None:
    name = f"{lab}/own_flow.py:constant"
    base = {"data": {"protocol": "casme2"}, "model": {"name": "linear"}}
    some = {"features.flow.name": {"choice": ["tvl1", "dis"]}, "features.strain": {"choice": ["meb", "ecnu"]}}
    space = Space.read({**base, "sweep": {"space": some}}, "s.yaml")
    flows = {space.config(setting)[0].features.flow.name for setting in space.feature_settings()}
    assert flows == {"tvl1", "dis"} and len(list(space.feature_settings())) == 4
    own = {**base, "features": {"flow": {"name": name}}}
    space = Space.read({**own, "sweep": {"space": {"features.flow.u": {"choice": [1.0, 2.0]}}}}, "s.yaml")
    configs = [space.config(setting)[0].features for setting in space.feature_settings()]
    assert len({key(cfg) for cfg in configs}) == 2
    for wrong, said in (
        ({"features.flow.w": {"choice": [1]}}, "sweep.space.features.flow.w cannot be 1: .*known: u, v"),
        ({"features.flow.name": {"choice": ["tvl"]}}, "cannot be 'tvl': unknown flow 'tvl'; did you mean"),
        ({"features.flow.u": {"uniform": [1, 2]}}, "features.flow.u must be a choice"),
    ):
        with pytest.raises(BadInput, match=said):
            Space.read({**own, "sweep": {"space": wrong}}, "s.yaml")
    maps = {**own, "data": {"protocol": "flowmaps"}, "features": {}}
    with pytest.raises(BadInput, match=r"features.flow.u acts only where the data are frames"):
        Space.read({**maps, "sweep": {"space": {"features.flow.u": {"choice": [1]}}}}, "s.yaml")
