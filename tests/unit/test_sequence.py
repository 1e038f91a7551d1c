"""A clip as a sequence: which frames it is made of, what is computed from them, and what a model is given."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distmer.config import Config, FeatureConfig, InputConfig
from distmer.datasets.frame_files import key_frames
from distmer.features.inputs import model_inputs
from distmer.features.methods import methods
from distmer.features.pipeline import FeatureRequest, clip_key, extract, extraction, frame_paths
from distmer.features.row import FeatureRow, to_rows, to_table
from distmer.features.sequence import blended, require_frames, samples
from distmer.features.store import FeatureStore
from distmer.models import resolve
from distmer.training.augmentations import Clips, mirrored
from distmer.training.fit import fit_fold
from distmer.training.fold_inputs import Inputs
from distmer.types import ApexSearch, BadInput, FlowMap, KeyFrames
from harness import toy
from tests.unit.test_features import _scene, _smiled


def config(frames: int, sampling: str = "nearest", **more: object) -> FeatureConfig:
    return FeatureConfig.model_validate(
        {"frames": frames, "sampling": sampling, "size": 48, "flow": "dis", **more}
    )


def clip(*numbers: int) -> KeyFrames:
    course = tuple((n, f"img{n}.png") for n in numbers)
    return KeyFrames(course[0][1], course[-1][1], course)


# Which frames
# ----------------------------------------------------------------------------


def test_frames_are_evenly_spaced_in_time_and_not_in_files() -> None:
    def chosen(k: int, *numbers: int) -> list[str]:
        return [sample.one for sample in samples(clip(*numbers), config(k))]

    assert chosen(3, 10, 11, 12, 13, 14) == ["img10.png", "img12.png", "img14.png"]
    assert chosen(3, 10, 11, 12, 20, 30) == ["img10.png", "img20.png", "img30.png"]  # frames were dropped
    assert chosen(4, 1, 2, 3, 4, 5, 6) == ["img1.png", "img3.png", "img4.png", "img6.png"]  # 2⅔ and 4⅓
    assert chosen(2, 1, 2) == ["img1.png", "img2.png"]
    assert samples(clip(1, 2, 3), config(0)) == []


@given(first=st.integers(0, 999), count=st.integers(2, 60), k=st.integers(2, 30))
def test_of_a_whole_clip_every_sample_is_where_it_should_be(first: int, count: int, k: int) -> None:
    numbers = range(first, first + count)
    moments = [first + Fraction((count - 1) * t, k - 1) for t in range(k)]
    number = {f"img{n}.png": n for n in numbers}
    linear = samples(clip(*numbers), config(k, "linear"))
    for moment, s in zip(moments, linear, strict=True):
        at = number[s.one] + s.weight * (number[s.other] - number[s.one])
        assert abs(at - moment) < 1e-9 and number[s.other] - number[s.one] in (0, 1)
    if count >= k:
        nearest = [number[s.one] for s in samples(clip(*numbers), config(k))]
        assert all(abs(n - moment) <= Fraction(1, 2) for n, moment in zip(nearest, moments, strict=True))
        assert all(a < b for a, b in pairwise(nearest))


def test_what_has_no_such_sequence_says_so(tmp_path: Path) -> None:
    for source, cfg, said in (
        (KeyFrames("a", "b"), config(4), "this clip is a pair of key frames"),
        (
            clip(3, 4, 5),
            config(4),
            r"3 frames, too few for 4 evenly spaced ones; lower features.frames, or set",
        ),
        (clip(1, 2, 3, 50), config(4), "4 frames, too few for 4 evenly spaced ones"),
        (clip(3), config(4, "linear"), "1 frames, too few for 4 evenly spaced ones; leave it out"),
    ):
        row = extract(FeatureRequest("d/s/c", source), cfg)
        assert row.status == "failed" and row.key == "" and "\n" not in row.error
        with pytest.raises(Exception, match=said):
            frame_paths(source, cfg)
        assert row.error.endswith(".")
    assert len(samples(clip(3, 4), config(9, "linear"))) == 9
    assert frame_paths(FlowMap("map.png"), config(4)) == ["map.png"]
    with pytest.raises(BadInput, match="one frame is no sequence"):
        samples(clip(3, 4), config(1))


def test_a_blend_is_between_its_two_frames_by_time() -> None:
    crops = {"img0.png": np.full((4, 4), 10, np.uint8), "img4.png": np.full((4, 4), 250, np.uint8)}
    mixed = blended(crops, samples(clip(0, 4), config(5, "linear")))
    assert [int(x_HW[0, 0]) for x_HW in mixed] == [10, 70, 130, 190, 250]
    assert all(x_HW.dtype == np.uint8 for x_HW in mixed)


def test_a_readers_course_is_from_onset_to_offset(tmp_path: Path) -> None:
    for n in range(1, 12):
        (tmp_path / f"img{n}.png").write_bytes(b"x")

    def course(onset: int, apex: int | None, offset: int | None, policy: str = "midpoint") -> list[int]:
        source, _ = key_frames(tmp_path, onset, apex, offset, policy)
        assert isinstance(source, KeyFrames | ApexSearch)
        assert all(file == str(tmp_path / f"img{n}.png") for n, file in source.course)
        return [n for n, _ in source.course]

    assert course(3, 5, 9) == course(3, None, 9) == course(3, None, 9, "max-flow") == list(range(3, 10))
    assert course(3, 5, None) == [3, 4, 5]  # no offset: to the apex


# What is computed
# ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def smile(tmp_path_factory: pytest.TempPathFactory) -> KeyFrames:
    """A smile that rises evenly over seven frames; the apex is the fifth."""
    folder = tmp_path_factory.mktemp("smile")
    files = [str(folder / f"img{n}.png") for n in range(7)]
    for n, file in enumerate(files):
        assert cv2.imwrite(file, _smiled(_scene(), 0.9 * n))
    return KeyFrames(files[0], files[4], tuple(enumerate(files)))


def _sequence(row: FeatureRow) -> tuple[np.ndarray, np.ndarray]:
    """The crops (T, H, W) of a sequence of four, and the flow (T − 1, H, W, 2) from each to the next."""
    crops_THW = np.stack([row.channels[f"crop{t}"] for t in range(1, 5)])
    flows = [np.stack([row.channels[f"u{t}"], row.channels[f"v{t}"]], axis=-1) for t in range(1, 4)]
    return crops_THW, np.stack(flows)


def test_crops_and_the_flow_between_neighbours(smile: KeyFrames) -> None:
    cfg = config(4)
    row = extract(FeatureRequest("d/s/c", smile), cfg)
    assert row.status == "ok" and row.key == clip_key(smile, cfg)
    sequence_THW, motion_MHW2 = _sequence(row)
    assert sequence_THW.shape == (4, 48, 48) and motion_MHW2.shape == (3, 48, 48, 2)
    assert np.array_equal(sequence_THW[0], row.channels["onset"])
    third = extract(
        FeatureRequest("d/s/c", KeyFrames(smile.onset, smile.course[6][1])),
        cfg.model_copy(update={"frames": 0}),
    )
    assert np.array_equal(sequence_THW[3], third.channels["apex"])
    plain = extract(FeatureRequest("d/s/c", smile), config(4, stabilise=False))
    crops_THW, flows_MHW2 = _sequence(plain)
    for before_HW, after_HW, flow_HW2 in zip(crops_THW[:-1], crops_THW[1:], flows_MHW2, strict=True):
        assert np.array_equal(methods(cfg).flow(before_HW, after_HW), flow_HW2)
    # it rises by the same amount each time, and onset and apex are what they are without a sequence
    lifts = [-float(flow_HW2[..., 1].min()) for flow_HW2 in motion_MHW2]
    assert min(lifts) > 0.3 and max(lifts) < 2 * min(lifts)
    alone = extract(FeatureRequest("d/s/c", smile), cfg.model_copy(update={"frames": 0}))
    assert {*alone.channels} == {"onset", "apex", "u", "v", "strain"}
    for name, x_HW in alone.channels.items():
        assert np.array_equal(x_HW, row.channels[name])


def test_of_a_searched_apex_the_candidates_are_read_once_and_serve_both(smile: KeyFrames) -> None:
    files = [file for _, file in smile.course]
    searched = ApexSearch(files[0], tuple(files[1:]), smile.course)
    assert frame_paths(searched, config(4)) == files
    row, direct = (extract(FeatureRequest("d/s/c", source), config(4)) for source in (searched, smile))
    assert np.array_equal(_sequence(row)[0], _sequence(direct)[0]) and row.key != direct.key


def test_the_key_follows_the_sequence_and_is_as_before_without_one(smile: KeyFrames) -> None:
    def key(source: KeyFrames, cfg: FeatureConfig) -> str:
        return clip_key(source, cfg, lambda path: Path(path).name)

    pair = KeyFrames(smile.onset, smile.apex)
    assert key(smile, config(0)) == key(pair, config(0)) == key(pair, config(0, "linear"))
    assert not {"frames", "sampling"} & extraction(config(0)).keys()
    keys = {key(smile, cfg) for cfg in (config(0), config(3), config(4), config(4, "linear"))}
    assert len(keys) == 4
    # the same files under other numbers are another sequence
    linear = config(3, "linear")
    even, uneven = clip(0, 10, 20, 30), clip(0, 9, 20, 30)
    even = replace(even, course=tuple((n, file.replace("img10", "img9")) for n, file in even.course))
    assert frame_paths(even, linear) == frame_paths(uneven, linear)
    assert key(even, config(0)) == key(uneven, config(0)) and key(even, linear) != key(uneven, linear)


def test_a_sequence_is_stored_and_comes_back_bit_equal(smile: KeyFrames, tmp_path: Path) -> None:
    cfg = config(4)
    row = extract(FeatureRequest("d/s/c", smile), cfg)
    failed = FeatureRow("d/s/f", "f", "px", "failed", error="img1.png: no face found; leave the clip out.")
    (came, _) = to_rows(to_table([row, failed], 48, 48, 4))
    assert {*came.channels} == {*row.channels} and len(came.channels) == 15
    assert all(np.array_equal(x_HW, row.channels[name]) for name, x_HW in came.channels.items())
    store = FeatureStore(tmp_path, cfg)
    for n in range(9):  # enough parts to be merged
        store.write([replace(row, key=f"k{n}")])
    store.write([failed])
    store.compact()
    channels = ("v3", "crop2", "u1", "strain")
    features = FeatureStore(tmp_path, cfg).load([("d/s/c", "k7"), ("d/s/f", "f")], channels)
    assert {*features.maps, *features.crops} == set(channels) and len(features.failures) == 1
    x_NCHW = model_inputs(features, channels, 48, InputConfig(normalise="none"))
    assert np.array_equal(x_NCHW[0, 0], row.channels["v3"])
    assert np.array_equal(x_NCHW[0, 1], row.channels["crop2"] / np.float32(255))
    with pytest.raises(BadInput, match=r"hold no v4; set features.frames=5"):
        features.channel("v4")


def test_each_flow_of_a_sequence_is_normalised_and_mirrored_as_flow() -> None:
    channels = ("u1", "v1", "crop1", "u12")
    x_NCHW = np.random.default_rng(0).random((2, 4, 6, 6)).astype(np.float32)
    inputs = Inputs(("a", "b"), channels, "minmax", x_NCHW)
    zero_C = inputs.no_motion.reshape(-1)
    assert zero_C.tolist() == [0.5, 0.5, 0, 0.5]
    flipped = mirrored(Clips(torch.from_numpy(x_NCHW), torch.zeros(2), channels, torch.from_numpy(zero_C), 3))
    expected = x_NCHW[..., ::-1].copy()
    expected[:, [0, 3]] = 1 - expected[:, [0, 3]]
    np.testing.assert_allclose(flipped.numpy(), expected, atol=1e-6)


# What learns from it
# ----------------------------------------------------------------------------


def test_flow_gru_repeats_its_bits_and_reads_the_flows_in_their_order() -> None:
    tree = {
        "model": {"name": "flow_gru", "size": toy.SIZE, "frames": 4, "hidden": 8},
        "features": {"frames": 4},
    }
    settings = Config.model_validate({**tree, "train": {"epochs": 10, "batch_size": 8, "lr": 3e-3}})
    clips = toy.clips()
    model = resolve(settings.model)
    assert model.inputs == ("u1", "v1", "u2", "v2", "u3", "v3")
    inputs = toy.inputs(clips, model.inputs)
    job = toy.jobs(settings, clips)[0]
    first, again = fit_fold(job, inputs), fit_fold(job, inputs)
    assert np.array_equal(first.predictions.prob_NK, again.predictions.prob_NK)
    assert first.curves == again.curves and first.curves["train_loss"][-1] < first.curves["train_loss"][0]
    net = model.build(3).eval()
    x_BCHW = torch.from_numpy(inputs.x_NCHW[:3])
    states = []
    net.over_time.register_forward_hook(lambda layer, given, out: states.append(out[0]))
    net(x_BCHW)
    changed = x_BCHW.clone()
    changed[:, 2:4] += 1  # the second moment
    net(changed)
    same = [torch.equal(states[0][:, t], states[1][:, t]) for t in range(3)]
    assert same == [True, False, False]


# What is asked for
# ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tree", "channels", "said"),
    [
        ({}, ("u7", "v7"), r"reads a sequence of 8 frames, but features.frames is 0; set features.frames=8"),
        ({"features": {"frames": 16}}, ("u7",), r"but features.frames is 16; set features.frames=8"),
        ({"data": {"protocol": "flowmaps"}}, ("crop3",), "which published flow maps do not hold"),
    ],
)
def test_a_model_and_the_features_agree_on_the_length(
    tree: dict, channels: tuple[str, ...], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        require_frames(Config.model_validate(tree), "lab_nets:Net", channels)
    require_frames(Config.model_validate({"features": {"frames": 8}}), "m", ("u7", "v1"))
    require_frames(Config(), "m", ("u", "v", "apex"))
