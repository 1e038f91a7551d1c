"""Losses and augmentations: their truth, and what comes in by the door that users' own take."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from distmer.config import Named, TrainConfig
from distmer.config_layers import load_config
from distmer.functions import AUGMENTATION, LOSS, of_training, resolve
from distmer.models import resolve as resolve_model
from distmer.plugins import shipped
from distmer.training.augmentations import Clips
from distmer.training.fit import fit_fold
from distmer.training.fold_inputs import ChannelScale, Inputs
from distmer.training.losses import Balanced, batch_loss, ce, focal
from distmer.training.tryout import try_out
from distmer.types import BadInput
from harness import toy

CHANNELS = ("u", "v", "strain", "onset")


def clips(normalised_as: str = "fixed") -> Clips:
    rng = np.random.default_rng(0)
    x_NCHW = rng.uniform(0, 1, (7, 4, 6, 6)).astype(np.float32)
    inputs = Inputs(tuple("abcdefg"), CHANNELS, normalised_as, x_NCHW)  # type: ignore[arg-type]
    zero_C = torch.from_numpy(inputs.no_motion.reshape(-1))
    return Clips(torch.from_numpy(x_NCHW), torch.tensor([0, 1, 2, 0, 1, 2, 0]), CHANNELS, zero_C, 3)


def augmented(name: str, of: Clips | None = None, **options: object) -> Clips:
    return resolve(AUGMENTATION, Named(name=name, **options)).bound()(of or clips(), np.random.default_rng(1))


@pytest.mark.parametrize("normalised_as", ["fixed", "minmax", "none"])
def test_a_mirrored_clip_is_flipped_and_its_u_turned_round(normalised_as: str) -> None:
    before = clips(normalised_as)
    after = augmented("mirror", before)
    turned = before.x_NCHW.flip(3)
    turned[:, 0] = (1 if normalised_as == "minmax" else 0) - turned[:, 0]
    mirrored = [not torch.equal(a, b) for a, b in zip(after.x_NCHW, before.x_NCHW, strict=True)]
    assert 0 < sum(mirrored) < len(mirrored)
    for one, was_mirrored in enumerate(mirrored):
        assert not was_mirrored or torch.allclose(after.x_NCHW[one], turned[one], atol=1e-6)


def test_mirroring_and_standardisation_may_change_places() -> None:
    before = clips("minmax")
    scale = ChannelScale.of(before.x_NCHW.numpy())
    zero = scale.apply(before.zero_C.numpy().reshape(1, -1, 1, 1)).reshape(-1)
    scaled = torch.from_numpy(scale.apply(before.x_NCHW.numpy()))
    then = augmented("mirror", Clips(scaled, before.target, CHANNELS, torch.from_numpy(zero), 3)).x_NCHW
    first = torch.from_numpy(scale.apply(augmented("mirror", before).x_NCHW.numpy()))
    assert torch.allclose(then, first, atol=1e-5)


def test_a_shifted_clip_is_moved_whole_and_nothing_moves_at_its_edge() -> None:
    before = clips("minmax")
    after = augmented("shift", before, px=2)
    zero_C11 = before.zero_C[:, None, None]
    moves = set()
    for old, new in zip(before.x_NCHW, after.x_NCHW, strict=True):
        found = []
        for dy in range(-2, 3):
            for dx in range(-2, 3):
                padded = zero_C11.expand(4, 10, 10).clone()
                padded[:, 2 + dy : 8 + dy, 2 + dx : 8 + dx] = old
                if torch.equal(padded[:, 2:8, 2:8], new):
                    found.append((dy, dx))
        assert len(found) == 1
        moves.add(found[0])
    assert len(moves) > 1


def test_noise_has_the_asked_spread_and_leaves_labels() -> None:
    before = clips()
    after = augmented("noise", before, sd=0.5)
    assert float((after.x_NCHW - before.x_NCHW).std()) == pytest.approx(0.5, rel=0.1)
    assert after.target is before.target


def test_mixup_mixes_clips_and_labels_in_the_same_shares() -> None:
    before = clips()
    after = augmented("mixup", before, alpha=1.0)
    assert torch.allclose(after.target.sum(1), torch.ones(7))
    # Each mixed clip is a line between two clips, at the place that its label says.
    truth_NK = one_hot(before.target, 3).float()
    for x_CHW, y_K in zip(after.x_NCHW, after.target, strict=True):
        fits = [
            torch.allclose(torch.lerp(before.x_NCHW[i], before.x_NCHW[j], float(share)), x_CHW, atol=1e-4)
            for i in range(7)
            for j in range(7)
            for share in {float(y_K[before.target[j]]), 1 - float(y_K[before.target[i]])}
            if torch.allclose(torch.lerp(truth_NK[i], truth_NK[j], share), y_K, atol=1e-5)
        ]
        same_class = float(y_K.max()) > 1 - 1e-6  # then the label does not tell the share
        assert any(fits) or same_class


@pytest.mark.parametrize("name", sorted(shipped(AUGMENTATION.group)))
@pytest.mark.parametrize("normalised_as", ["fixed", "minmax"])
def test_every_augmentation_repeats_itself_and_leaves_what_it_is_given(name: str, normalised_as: str) -> None:
    before = clips(normalised_as)
    kept = before.x_NCHW.clone()
    one, again = augmented(name, before), augmented(name, before)
    assert torch.equal(one.x_NCHW, again.x_NCHW) and torch.equal(one.target, again.target)
    assert torch.equal(before.x_NCHW, kept)
    assert one.x_NCHW.shape == kept.shape and one.x_NCHW.dtype == torch.float32
    assert not torch.equal(one.x_NCHW, kept)
    changes = getattr(resolve(AUGMENTATION, Named(name=name)).entry, "changes_labels", False)
    assert changes == (one.target is not before.target)


@pytest.mark.parametrize("name", sorted(shipped(LOSS.group)))
def test_every_loss_takes_classes_and_their_probabilities_alike(name: str) -> None:
    torch.manual_seed(0)
    logits_BK, y_B = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 0, 1])
    loss = resolve(LOSS, Named(name=name)).bound(count_K=np.array([3, 2, 1]))
    by_class, by_probability = loss(logits_BK, y_B), loss(logits_BK, one_hot(y_B, 3).float())
    assert by_class.shape == (6,)
    assert torch.allclose(by_class, by_probability, atol=1e-6)


def test_the_losses_are_what_they_say() -> None:
    torch.manual_seed(0)
    logits_BK, y_B = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 0, 1])
    assert torch.allclose(batch_loss(ce, logits_BK, y_B), cross_entropy(logits_BK, y_B))
    assert torch.allclose(focal(logits_BK, y_B, gamma=0.0), ce(logits_BK, y_B), atol=1e-6)
    p_B = logits_BK.softmax(1).gather(1, y_B[:, None])[:, 0]
    assert torch.allclose(focal(logits_BK, y_B, gamma=2.0), -((1 - p_B) ** 2) * p_B.log(), atol=1e-6)
    assert torch.allclose(Balanced(np.array([2, 2, 2]))(logits_BK, y_B), ce(logits_BK, y_B))
    mean = torch.nn.CrossEntropyLoss()  # a loss that averages itself
    assert torch.equal(batch_loss(mean, logits_BK, y_B), mean(logits_BK, y_B))


OWN = """
import torch
from own_augment_helper import FACTOR

def brighter(clips, rng, by=0.1):
    from dataclasses import replace
    return replace(clips, x_NCHW=clips.x_NCHW + by * FACTOR)

class SmoothLoss(torch.nn.Module):
    def __init__(self, smoothing: float = 0.1):
        super().__init__()
        self.smoothing = smoothing

    def forward(self, logits_BK, target):
        return torch.nn.functional.cross_entropy(
            logits_BK, target, label_smoothing=self.smoothing, reduction="none"
        )

def needs(clips, rng, strength):
    return clips

mirror_image = 3
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with files of a user's own."""
    (tmp_path / "own_augment.py").write_text(OWN)
    (tmp_path / "own_augment_helper.py").write_text("FACTOR = 1.0\n")
    (tmp_path / "broken_augment.py").write_text(_BROKEN)
    return tmp_path


def read(folder: Path, text: str, *overrides: str) -> TrainConfig:
    (folder / "c.yaml").write_text(text)
    return load_config(folder / "c.yaml", overrides, workspace=folder, environ={}).train


def test_a_users_own_are_named_by_file_or_by_a_declared_module(own: Path) -> None:
    by_file = read(
        own,
        "train: {loss: './own_augment.py:SmoothLoss',"
        " augment: [mirror, {name: './own_augment.py:brighter', by: 0.2}]}",
    )
    declared = read(
        own,
        "plugins: [./own_augment.py]\n"
        "train: {loss: SmoothLoss, augment: [mirror, {name: brighter, by: 0.2}]}",
    )
    assert [f.setting for f in of_training(by_file)] == [f.setting for f in of_training(declared)]
    assert [f.setting for f in of_training(declared)] == [
        {"name": "own_augment:SmoothLoss", "smoothing": 0.1},
        {"name": "mirror"},
        {"name": "own_augment:brighter", "by": 0.2},
    ]


def test_a_helper_file_of_a_loss_is_part_of_the_folds_identity(own: Path) -> None:
    settings = {"augment": [f"{own}/own_augment.py:brighter"], "loss": f"{own}/own_augment.py:SmoothLoss"}
    all_clips = toy.clips()
    job = toy.jobs(toy.config(train=settings), all_clips)[0]
    assert {"own_augment", "own_augment_helper"} <= job.spec["code"].keys()
    assert job.spec["train"]["loss"] == {"name": "own_augment:SmoothLoss", "smoothing": 0.1}
    plain = fit_fold(toy.jobs(toy.config(), all_clips)[0], toy.inputs(all_clips))
    result = fit_fold(job, toy.inputs(all_clips))
    assert result.curves["train_loss"] != plain.curves["train_loss"]


def test_options_of_one_loss_are_not_another_ones(own: Path) -> None:
    base = "train: {loss: {name: focal, gamma: 3}}"
    assert read(own, base, "train.loss.gamma=1").loss.options == {"gamma": 1}
    assert read(own, base, "train.loss=ce").loss == Named(name="ce")
    assert read(own, "train: {loss: focal}", "train.loss.gamma=1").loss.options == {"gamma": 1}
    assert read(own, base, "train.augment=mirror").augment == (Named(name="mirror"),)
    with pytest.raises(
        BadInput, match=r"both set train.loss; keep one of them \(the name is train.loss.name\)"
    ):
        read(own, base, "train.loss=focal", "train.loss.gamma=1")


@pytest.mark.parametrize(
    ("train", "sentence"),
    [
        ({"loss": "focl"}, r"unknown loss 'focl'; did you mean 'focal'\?"),
        ({"loss": {"name": "focal", "gama": 2}}, r"train.loss.gama is not a setting; did you mean 'gamma'\?"),
        ({"loss": {"name": "focal", "gamma": -1}}, r"train.loss.gamma: .*greater than or equal to 0"),
        ({"augment": ["miror"]}, r"unknown augmentation 'miror'; did you mean 'mirror'\?"),
        ({"augment": ["own_augment:needs"]}, "its parameter 'strength' has no default"),
        (
            {"augment": ["own_augment:mirror_image"]},
            "as augmentation a function or a class is needed, not a int",
        ),
        ({"augment": ["own_augment:brightr"]}, r"has no 'brightr'; did you mean 'brighter'\?"),
    ],
    ids=str,
)
def test_bad_names_and_options_get_one_sentence(own: Path, train: dict, sentence: str) -> None:
    sys.path.append(str(own))
    with pytest.raises(BadInput, match=sentence) as error:
        of_training(TrainConfig.model_validate(train))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("plugins: [./own_augment.py]\ntrain: {loss: SmothLoss}", r"'SmothLoss' is neither distmer's nor in"),
        ("plugins: [./nothing.py]\ntrain: {loss: ce}", "there is no such file"),
        ("plugins: 3", "plugins is 3; give a list of modules and files"),
        ("plugins: [null]", "give a list of modules and files"),
        ("plugins: [./own_augment.py]\ntrain: {loss: ./own_augment.py}", "say what of it is meant: .*:NAME"),
    ],
)
def test_declared_modules_that_do_not_have_the_name(own: Path, text: str, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        read(own, text)


def test_a_declared_name_that_is_distmers_own_is_refused(own: Path) -> None:
    (own / "own_augment.py").write_text("def mirror(clips, rng):\n    return clips\n")
    with pytest.raises(BadInput, match="is a name of distmer or of an installed package, and"):
        read(own, "plugins: [./own_augment.py]\ntrain: {augment: [mirror]}")


_BROKEN = """
import torch
from dataclasses import replace

def scalar(logits_BK, target):
    return torch.nn.functional.cross_entropy(logits_BK, target)

def wide(logits_BK, target):
    return logits_BK

def blind(logits_BK, target):
    return torch.ones(len(target))

def raising(logits_BK, target):
    return target / "two"

class Learns(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, logits_BK, target):
        return self.scale * scalar(logits_BK, target)

def relabels(clips, rng):
    return replace(clips, target=clips.target * 0)

def relabels_in_place(clips, rng):
    clips.target.zero_()
    return clips

def crops(clips, rng):
    return replace(clips, x_NCHW=clips.x_NCHW[..., 1:])

def divides(clips, rng):
    return replace(clips, x_NCHW=clips.x_NCHW / 0)

def forgets(clips, rng):
    clips.x_NCHW

def doubles_in_place(clips, rng):
    clips.x_NCHW.mul_(2)
    return clips

def of_the_process(clips, rng):
    import numpy as np
    return replace(clips, x_NCHW=clips.x_NCHW + float(np.random.rand()))

def by_array(clips, rng, kernel=torch.ones(3)):
    return clips
"""


@pytest.mark.parametrize(
    ("train", "sentence"),
    [
        ({"loss": "scalar"}, None),
        ({"loss": "wide"}, r"for 6 clips it answered \(6, 3\); return one number for each clip"),
        ({"loss": "blind"}, "its answer does not follow from the logits"),
        ({"loss": "raising"}, r"6 clips raised TypeError .*broken_augment.py, line 15; correct the code"),
        ({"loss": "Learns"}, "only a model.s weights are trained"),
        ({"augment": ["relabels"]}, "it changes labels without saying so"),
        ({"augment": ["relabels_in_place"]}, "it changes labels without saying so"),
        ({"augment": ["crops"]}, r"it made \(6, 3, 16, 16\) torch.float32 into \(6, 3, 16, 15\)"),
        ({"augment": ["divides"]}, "something that is no number"),
        ({"augment": ["forgets"]}, "it answered with a NoneType; return Clips"),
        ({"augment": ["doubles_in_place"]}, "it writes into the clips that it is given"),
        ({"augment": ["of_the_process"]}, "draw all random numbers from the generator that it is given"),
        ({"augment": ["by_array"]}, "the default of its option 'kernel' is a Tensor, which no configuration"),
    ],
    ids=str,
)
def test_a_users_own_are_tried_before_anything_begins(own: Path, train: dict, sentence: str | None) -> None:
    config = read(own, "plugins: [./broken_augment.py]\ntrain: " + json.dumps(train))
    model = resolve_model(toy.config().model)
    if sentence is None:
        try_out(model, config)
        return
    with pytest.raises(BadInput, match=sentence) as error:
        try_out(model, config)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["relabels", "relabels_in_place"])
def test_labels_that_change_in_secret_end_the_fold(own: Path, name: str) -> None:
    all_clips = toy.clips()
    settings = {"augment": [f"{own}/broken_augment.py:{name}"]}
    with pytest.raises(BadInput, match=f"{name}: it changes labels without saying so"):
        fit_fold(toy.jobs(toy.config(train=settings), all_clips)[0], toy.inputs(all_clips))
