"""Where models look: methods against what is known of them, and what `distmer explain` says and writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import distmer as dm
from distmer.commands.session import Session
from distmer.commands.track import plan_again
from distmer.config import Config, ModelConfig
from distmer.datasets.synthetic.truth import true_motion
from distmer.explain.gather import SIDE, look
from distmer.explain.maps import OCCLUSION, coefficients, grad_cam, maps_of, occlusion
from distmer.explain.sanity import random_network
from distmer.models import models, resolve
from distmer.registry import nearest
from distmer.report.explanation import ABOUT, FOLDER, TRAINED, UNTRAINED
from distmer.training.averaging import Mirror, SymmetricNetwork
from distmer.training.fit import Fitted, fit_and_keep
from distmer.training.fold_inputs import ChannelScale, Inputs
from harness import toy
from tests.saying import Say

BLANK = np.zeros((1, 3, 1, 1), np.float32)


class Block(nn.Module):
    """Answers with the sum of the first channel over a block of rows: what it looks at is known."""

    def __init__(self, rows: slice) -> None:
        super().__init__()
        self.same = nn.Conv2d(3, 3, 1, bias=False)
        self.same.weight.data[:] = torch.eye(3)[..., None, None]
        self.rows = rows

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        seen_B = self.same(x_BCHW)[:, 0, self.rows].sum((1, 2))
        return torch.stack([seen_B, torch.zeros_like(seen_B)], dim=1)


def fitted(model: Any, scale: ChannelScale | None = None) -> Fitted:
    return Fitted(model.eval(), scale, 1, {})


def bright(n: int = 4, side: int = 16) -> np.ndarray:
    return np.random.default_rng(0).random((n, 3, side, side), dtype=np.float32)


def test_occlusion_finds_the_rows_that_the_answer_rests_on_and_no_others() -> None:
    found_NHW = occlusion(fitted(Block(slice(6, 8))), bright(), np.zeros(4, np.int64), BLANK)
    assert (found_NHW[:, 6:8] > 0).all()
    assert not found_NHW[:, :5].any() and not found_NHW[:, 9:].any()  # a square of 2 px reaches 1 px beyond
    against_NHW = occlusion(fitted(Block(slice(6, 8))), bright(), np.ones(4, np.int64), BLANK)
    assert not against_NHW.any()  # to hide them makes the other class more probable


def test_occlusion_hides_with_no_motion_and_not_with_zero() -> None:
    still_NCHW = np.full((2, 3, 16, 16), 0.5, np.float32)
    blank_1C11 = np.full((1, 3, 1, 1), 0.5, np.float32)
    assert not occlusion(fitted(Block(slice(0, 16))), still_NCHW, np.zeros(2, np.int64), blank_1C11).any()


def test_grad_cam_is_its_formula() -> None:
    x_NCHW, target_N = torch.from_numpy(bright()) - 0.5, torch.zeros(4, dtype=torch.int64)
    # the logit is the sum of channel 0 over 2 of 16 rows: its mean slope there is 1/8, elsewhere 0
    found = grad_cam(Block(slice(6, 8)).eval(), x_NCHW, target_N)
    assert found is not None
    assert torch.allclose(found, (x_NCHW[:, 0] / 8).relu(), atol=1e-7)
    assert grad_cam(nn.Sequential(nn.Flatten(), nn.Linear(768, 3)), x_NCHW, target_N) is None


def test_the_maps_of_a_network_are_captums() -> None:
    from captum.attr import LayerGradCam, Occlusion

    torch.manual_seed(0)
    model = resolve(ModelConfig.model_validate({"name": "atscnn", "size": 32, "hidden": 16}))
    net, x_NCHW = model.build(3).eval(), torch.from_numpy(bright(side=32)) - 0.5
    target_N = torch.tensor([0, 1, 2, 0])
    theirs = LayerGradCam(net, net.attention).attribute(x_NCHW, target=target_N, relu_attributions=True)
    ours = grad_cam(net, x_NCHW, target_N)
    assert ours is not None and ours.any() and torch.allclose(ours, theirs[:, 0], atol=1e-7)
    block = Block(slice(4, 12)).eval()  # a sum of positive numbers: no square adds to it
    seen_NCHW = torch.from_numpy(bright())
    probability = Occlusion(lambda x: block(x).double().softmax(1))
    how = {"sliding_window_shapes": (3, 2, 2), "strides": (3, 1, 1), "target": 0}
    theirs = probability.attribute(seen_NCHW, **how)
    ours_NHW = occlusion(fitted(block), seen_NCHW.numpy(), np.zeros(4, np.int64), BLANK)
    assert np.allclose(ours_NHW, theirs[:, 0].numpy(), atol=1e-9)


def test_a_coefficient_is_what_one_standard_deviation_of_its_pixel_adds_to_the_logit() -> None:
    clips, config = toy.clips(), toy.config("linear")
    inputs = toy.inputs(clips)
    job = toy.jobs(config, clips)[0]
    kept = fit_and_keep(job, inputs)[1]
    assert kept is not None
    map_KHW = coefficients(kept.model, (3, 16, 16))
    assert map_KHW is not None
    x_NCHW = inputs.take(job.fold.train)
    one_1CHW, spread_CHW = x_NCHW[:1], x_NCHW.std(axis=0)
    size = 0.0
    for channel in range(3):
        more_1CHW = one_1CHW.astype(np.float64)
        more_1CHW[0, channel, 5, 7] += spread_CHW[channel, 5, 7]
        before_K, after_K = (np.log(kept.model.predict_proba(x)[0]) for x in (one_1CHW, more_1CHW))
        # of a softmax, the logits are known up to a common number, which the coefficients sum to 0 in
        change_K = (after_K - before_K) - (after_K - before_K).mean()
        size += abs(change_K[1])
    assert np.isclose(map_KHW[1, 5, 7], size, rtol=1e-3)


def test_a_symmetric_network_looks_at_a_mirrored_clip_as_at_the_clip() -> None:
    torch.manual_seed(0)
    net = resolve(toy.config().model).build(3).eval()
    mirror = Mirror(("u", "v", "strain"), torch.zeros(3))
    both = fitted(SymmetricNetwork(net, mirror))
    x_NCHW = bright() - 0.5
    mirrored_NCHW = mirror(torch.from_numpy(x_NCHW)).numpy()
    target_N = np.array([0, 1, 2, 0])
    there, here = (maps_of(both, x, target_N, BLANK) for x in (x_NCHW, mirrored_NCHW))
    assert set(there) == {"Grad-CAM", "CBAM, spatial", OCCLUSION}
    for method, map_NHW in there.items():
        assert map_NHW.any(), method
        assert np.allclose(map_NHW, here[method][..., ::-1], atol=1e-6), method
    alone = maps_of(fitted(net), x_NCHW, target_N, BLANK)
    assert not np.allclose(
        alone["Grad-CAM"], maps_of(fitted(net), mirrored_NCHW, target_N, BLANK)["Grad-CAM"][..., ::-1]
    )


def test_the_untrained_counterpart_keeps_no_trained_weight_and_leaves_the_network_alone() -> None:
    clips, inputs = toy.clips(), toy.inputs(toy.clips())
    kept = fit_and_keep(toy.jobs(toy.config(), clips)[0], inputs)[1]
    assert kept is not None
    before = {name: value.clone() for name, value in kept.model.state_dict().items()}
    x_NCHW = inputs.take(inputs.clip_ids)
    random, same = (random_network(kept, x_NCHW, 5).model.state_dict() for _ in range(2))
    for name, value in kept.model.state_dict().items():
        assert torch.equal(value, before[name])
        assert torch.equal(random[name], same[name])
        constant = name.endswith(("norm.weight", "norm.bias", "num_batches_tracked"))
        assert constant or not torch.allclose(random[name], value), name
    assert torch.equal(random["stages.0.norm.weight"], torch.ones_like(random["stages.0.norm.weight"]))
    # the batch norms have the statistics of the clips, so that what they give is neither tiny nor huge
    net = random_network(kept, x_NCHW, 5).model
    first_BCHW = net.stages[0].norm(net.stages[0].conv(torch.from_numpy(x_NCHW)))
    assert torch.allclose(first_BCHW.mean((0, 2, 3)), torch.zeros(9), atol=1e-3)
    assert torch.allclose(first_BCHW.std((0, 2, 3)), torch.ones(9), atol=1e-2)


@pytest.mark.parametrize("name", sorted(set(models()) - {"sklearn"}))
def test_every_model_has_maps(name: str) -> None:
    info = models()[name]
    size = max(info.min_size, min(info.native_size, 28))
    tree = {"model": {"name": name, "size": size}, "train": {"epochs": 1, "batch_size": 8}}
    config = Config.model_validate(tree)
    clips, model = toy.clips(3, 4), resolve(config.model)
    x_NCHW = np.random.default_rng(0).normal(size=(12, len(model.inputs), size, size)).astype(np.float32)
    inputs = Inputs(tuple(clip.id for clip in clips), model.inputs, "fixed", x_NCHW)
    kept = fit_and_keep(toy.jobs(config, clips)[0], inputs)[1]
    assert kept is not None
    untrained = random_network(kept, x_NCHW, 1) if info.kind == "torch" else None
    found = look(inputs.clip_ids[:2], kept, untrained, x_NCHW[:2], np.array([0, 2]), inputs.no_motion)
    methods = {method for _, method in found[0].maps}
    assert {OCCLUSION, "motion"} <= methods
    assert "Grad-CAM" in methods or info.kind == "classical" or name == "flow_gru"  # a sequence has no maps
    assert any(one.maps[TRAINED, method].any() for one in found for method in methods - {"motion"})
    for one in found:
        for key, map_HW in one.maps.items():
            assert map_HW.shape == (SIDE, SIDE) and np.isfinite(map_HW).all() and (map_HW >= 0).all(), key
            assert np.isclose(map_HW.sum(), 1) or not map_HW.any(), key
        sides = {side for side, _ in one.maps}
        assert sides == ({TRAINED, UNTRAINED} if untrained else {TRAINED})


def test_the_embedded_set_says_where_it_moved(say: Say, tmp_path: Path) -> None:
    small = ("data.synthetic.subjects=4", "data.synthetic.clips_per_subject=4", "features.flow=farneback")
    small += ("tracking.enabled=false", "evaluation.bootstrap=100", "model.name=linear")
    given = [part for setting in small for part in ("--set", setting)]
    assert say("run", *given, "--local").code == 0
    (folder,) = (tmp_path / "home" / "runs").iterdir()
    refused = say("explain", str(folder))
    assert refused.code == 2 and "train.keep_weights=true" in refused.err
    assert say("run", *given, "--set", "train.keep_weights=true", "--local").code == 0
    said = say("explain", str(folder))
    assert said.code == 0, said.err
    about = json.loads((folder / FOLDER / ABOUT).read_text())
    assert [row["method"] for row in about["inside"]] == ["motion", "coefficients", "occlusion"]
    assert 0.05 < about["area"][0] < 0.2
    assert about["untrained"] == "shuffled labels"
    assert sum(about["clips"]) == 16
    page = (folder / "report.html").read_text()
    assert "Where the model looks: negative" in page and "shuffled labels" in page
    assert (folder / "figures" / "looks-negative.png").is_file()
    assert len((folder / FOLDER / "clips.csv").read_text().splitlines()) == 17

    one = sorted(clip.id for clip in Session.reopen(folder).manifest().clips)[0]
    alone = dm.explain(folder, clip=one, out=tmp_path / "alone", progress=False)
    assert sum(alone.about.clips) == 1 and one in alone.about.title
    assert len(alone.figures()) == 1
    assert f"did you mean {one!r}?" in say("explain", str(folder), "--clip", one + "x").err
    far = say("explain", str(folder), "--clip", "casme/sub99/anger_3").sentence  # nobody who is near
    assert "did you mean" not in far and "known: casme/" in far, far
    # ids, faces and frames of the truth are those of the clips: the measured motion lies there
    session = Session.reopen(folder)
    plan, features = plan_again(folder, session)
    clips = [clip.id for clip in plan.clips]
    flow = features.store.load([(clip, features.keys[clip]) for clip in clips], ("u", "v"))
    truth = true_motion(session.config.data.synthetic, flow.maps["u"].shape[1])
    measured_NP = np.hypot(flow.maps["u"], flow.maps["v"]).reshape(len(clips), -1)
    moved_NP = np.stack([truth[clip] for clip in clips]).reshape(len(clips), -1)
    alike_NN = np.corrcoef(measured_NP, moved_NP)[: len(clips), len(clips) :]
    others = (alike_NN.sum() - np.trace(alike_NN)) / (alike_NN.size - len(clips))
    assert np.trace(alike_NN) / len(clips) > others + 0.25


def test_only_a_clip_that_is_near_is_proposed_and_of_many_a_few_are_listed() -> None:
    clips = [f"casme2/sub{s:02}/EP{n:02}_{n}f" for s in range(1, 27) for n in range(1, 10)]
    assert nearest("casme2/sub01/EP02_02f", clips) == "did you mean 'casme2/sub01/EP02_2f'?"
    for far in ("casme2/sub01/anger", "samm/006/006_1_2", "EP99", "casme2/nobody/EP02_2f"):
        few = ", ".join(sorted(clips)[:5])
        assert nearest(far, clips) == f"known: {few}, and {len(clips) - 5} more."
    assert nearest("zzz", ["b", "a"]) == "known: a, b."


def test_a_kept_model_is_explained_on_clips_that_it_is_given(maps: Path, say: Say, tmp_path: Path) -> None:
    given = toy.settings(maps, "tracking.enabled=false", "evaluation.bootstrap=100")
    assert say("fit", *given, "--out", str(tmp_path / "model")).code == 0
    nothing = say("explain", str(tmp_path / "model"))
    assert nothing.code == 2 and "give some to explain" in nothing.err
    clips = next(maps.rglob("*.png")).parent
    said = say("explain", str(tmp_path / "model"), str(clips), "--out", str(tmp_path / "out"))
    assert said.code == 0, said.err
    assert "that it called so" in said.out
    explained = dm.explain(tmp_path / "model", clips, out=tmp_path / "out")
    assert explained.about.untrained == "random weights"
    assert explained.about.region_areas == {}  # published maps have no landmarks
    assert sum(explained.about.clips) == len(list(clips.iterdir()))
    assert explained.figures()
    called = next(iter(explained.maps("occlusion").values()))
    assert np.isclose(called.sum(), 1, atol=1e-4)
