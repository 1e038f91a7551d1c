"""One fold: it learns, it repeats to the bit, it goes on where it stopped, and it never looks at the held-out
subject."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score

from distmer.config import TrainConfig
from distmer.training import fold_inputs, losses, network, runtime
from distmer.training.fit import fit_and_keep, fit_fold
from distmer.training.fold_inputs import Inputs
from distmer.types import BadInput, FoldResult
from harness import toy

CASES = {
    "atscnn": toy.config(),
    "atscnn, inner": toy.config(train={"selection": "inner", "inner_folds": 2}),
    "atscnn, mirrored and standardised": toy.config(
        train={"augment": ["mirror"], "loss": "balanced"}, inputs={"standardise": True}
    ),
    "atscnn, all augmentations": toy.config(
        train={
            "augment": ["mirror", {"name": "shift", "px": 1}, "noise", "mixup"],
            "loss": {"name": "focal", "gamma": 1.5},
        }
    ),
    "atscnn, symmetric, an ensemble": toy.config(train={"ensemble": 2}, inputs={"symmetric": True}),
    "linear": toy.config("linear"),
    "linear, symmetric": toy.config("linear", inputs={"symmetric": True, "standardise": True}),
    "svm": toy.config("svm", inputs={"standardise": True}),
}


def changed(inputs: Inputs, clip_ids: tuple[str, ...]) -> Inputs:
    """The same inputs with other pixels in some clips."""
    x = inputs.x_NCHW.copy()
    for i, clip in enumerate(inputs.clip_ids):
        if clip in clip_ids:
            x[i] = np.random.default_rng(i).normal(loc=3, scale=5, size=x[i].shape)
    return replace(inputs, x_NCHW=x)


@pytest.mark.parametrize("name", CASES)
def test_the_held_out_subject_changes_nothing_in_training(name: str) -> None:
    """Other pixels in all held-out clips but one, other labels for all: the curves, the number of epochs and
    the probabilities of the clip left alone stay as they are, to the bit."""
    clips = toy.clips()
    inputs = toy.inputs(clips)
    job = toy.jobs(CASES[name], clips)[1]
    probe, others = job.fold.test[0], job.fold.test[1:]
    relabelled = replace(
        job, labels={c: (y + 1) % 3 if c in job.fold.test else y for c, y in job.labels.items()}
    )
    before, after = fit_fold(job, inputs), fit_fold(relabelled, changed(inputs, others))
    assert before.curves == after.curves
    assert before.epochs == after.epochs
    row = job.fold.test.index(probe)
    assert np.array_equal(before.predictions.prob_NK[row], after.predictions.prob_NK[row])
    assert not np.array_equal(before.predictions.prob_NK, after.predictions.prob_NK)  # the others did change
    # And the test can fail: one training clip changed is seen.
    leaky = fit_fold(job, changed(inputs, job.fold.train[:1]))
    assert not np.array_equal(before.predictions.prob_NK[row], leaky.predictions.prob_NK[row])


@pytest.mark.parametrize("name", CASES)
def test_a_fold_alone_is_the_fold_among_others(name: str) -> None:
    clips = toy.clips()
    inputs = toy.inputs(clips)
    jobs = toy.jobs(CASES[name], clips)
    torch.rand(3)  # whatever the process did before
    among = [fit_fold(job, inputs) for job in jobs]
    alone = fit_fold(jobs[2], inputs)
    assert np.array_equal(among[2].predictions.prob_NK, alone.predictions.prob_NK)
    assert among[2].curves == alone.curves
    predictions = [r.predictions for r in among]
    truth, said = (
        np.concatenate([p.y_true_N for p in predictions]),
        np.concatenate([p.y_pred_N for p in predictions]),
    )
    if name != "atscnn, inner":  # which may choose a single epoch here
        assert accuracy_score(truth, said) > 0.6


class Memory(runtime.SingleProcess):
    """A runtime that keeps every checkpoint, and dies once, after so many of them."""

    def __init__(self, dies_after: int) -> None:
        super().__init__()
        self.kept: dict[str, Any] | None = None
        self.dies_after = dies_after
        self.saved = 0

    def restore(self) -> dict[str, Any] | None:
        return self.kept

    def save(self, epoch: int, state: Callable[[], dict[str, Any]]) -> None:
        self.kept = _copied(state())
        self.saved += 1
        if self.saved == self.dies_after:
            raise SystemExit("killed")


def _copied(state: Any) -> Any:
    if isinstance(state, torch.Tensor):
        return state.clone()
    if isinstance(state, dict):
        return {key: _copied(value) for key, value in state.items()}
    return [_copied(value) for value in state] if isinstance(state, list) else state


@pytest.mark.parametrize("schedule", ["constant", "step"])
@pytest.mark.parametrize("selection", ["fixed", "inner"])
def test_a_training_that_died_goes_on_from_its_checkpoint_to_the_same_bits(
    selection: str, schedule: str
) -> None:
    clips = toy.clips()
    inputs = toy.inputs(clips)
    stepped = {"schedule": schedule, "step_epochs": 2, "step_factor": 0.5}
    job = toy.jobs(
        toy.config(
            train={"selection": selection, "inner_folds": 2, "augment": ["mirror", "mixup"], **stepped}
        ),
        clips,
    )[0]
    whole = fit_fold(job, inputs)
    runtime = Memory(dies_after=max(1, whole.epochs - 1))
    with pytest.raises(SystemExit):
        fit_fold(job, inputs, runtime)
    resumed = fit_fold(job, inputs, runtime)
    assert np.array_equal(whole.predictions.prob_NK, resumed.predictions.prob_NK)
    assert whole.curves == resumed.curves


@pytest.mark.parametrize("dies_after", [4, 10, 13])  # in the first network, between the two, in the second
def test_an_ensemble_that_died_goes_on_in_the_network_where_it_was(dies_after: int) -> None:
    clips = toy.clips()
    inputs = toy.inputs(clips)
    job = toy.jobs(toy.config(train={"ensemble": 2}), clips)[0]
    whole = fit_fold(job, inputs)
    runtime = Memory(dies_after=dies_after)
    with pytest.raises(SystemExit):
        fit_fold(job, inputs, runtime)
    resumed = fit_fold(job, inputs, runtime)
    assert np.array_equal(whole.predictions.prob_NK, resumed.predictions.prob_NK)
    assert whole.curves == resumed.curves


def test_an_ensemble_is_the_mean_of_its_networks() -> None:
    clips = toy.clips()
    inputs = toy.inputs(clips)
    alone = fit_fold(toy.jobs(toy.config(), clips)[0], inputs).predictions.prob_NK
    together = {
        n: fit_fold(toy.jobs(toy.config(train={"ensemble": n}), clips)[0], inputs).predictions.prob_NK
        for n in (2, 3)
    }
    second = 2 * together[2] - alone
    third = 3 * together[3] - 2 * together[2]
    for prob_NK in (second, third):  # each a network's own probabilities, and not the first one's
        assert np.allclose(prob_NK.sum(1), 1) and prob_NK.min() > -1e-9
        assert not np.allclose(prob_NK, alone, atol=1e-3)


@pytest.mark.parametrize("model", ["atscnn", "linear"])
def test_a_symmetric_model_gives_a_clip_and_its_mirror_image_one_answer(model: str) -> None:
    clips = toy.clips()
    inputs = toy.inputs(clips)
    x_NCHW = inputs.x_NCHW[..., ::-1].copy()
    x_NCHW[:, 0] *= -1  # u; the scale is fixed, so no motion is 0
    answers = []
    for symmetric in (True, False):
        job = toy.jobs(toy.config(model, inputs={"symmetric": symmetric}), clips)[0]
        _, fitted = fit_and_keep(job, inputs)
        assert fitted is not None
        answers.append(np.abs(fitted.predict(inputs.x_NCHW) - fitted.predict(x_NCHW)).max())
    assert answers[0] < 1e-6 < 1e-2 < answers[1]


def test_the_oracle_sees_what_fixed_does_not_and_only_when_asked() -> None:
    clips = toy.clips(subjects=5)
    inputs = toy.inputs(clips, noise=3)
    fixed = [fit_fold(job, inputs) for job in toy.jobs(toy.config(), clips)]
    oracle = [fit_fold(job, inputs) for job in toy.jobs(toy.config(train={"selection": "oracle"}), clips)]

    def accuracy(results: list[FoldResult]) -> float:
        return float(np.mean([(r.predictions.y_true_N == r.predictions.y_pred_N).mean() for r in results]))

    assert accuracy(oracle) > accuracy(fixed)
    assert all("test_accuracy" not in r.curves for r in fixed)
    for result in oracle:
        assert (
            max(result.curves["test_accuracy"])
            == (result.predictions.y_true_N == result.predictions.y_pred_N).mean()
        )
    common = fit_fold(
        toy.jobs(toy.config(train={"selection": "oracle", "oracle": "global_epoch"}), clips)[0], inputs
    )
    assert common.epoch_prob_ENK is not None
    assert common.epoch_prob_ENK.shape == (10, 5, 3)


def test_one_class_in_training_is_bad_input() -> None:
    clips = [replace(c, label=0 if c.subject != "s0" else 1) for c in toy.clips()]
    job = next(j for j in toy.jobs(toy.config(), clips) if j.fold.id == "toy/s0")
    with pytest.raises(BadInput, match="fold toy/s0: its training clips show one class only"):
        fit_fold(job, toy.inputs(clips))


def test_balanced_weights_give_every_class_one_voice() -> None:
    y_N = np.array([0] * 6 + [1] * 3 + [3])
    balanced = losses.Balanced(np.bincount(y_N, minlength=4))
    assert torch.allclose(
        balanced.weight_K * torch.tensor([6.0, 3, 0, 1]), torch.tensor([10 / 3, 10 / 3, 0, 10 / 3])
    )
    logits_BK, y_B = torch.randn(10, 4), torch.from_numpy(y_N)
    whole = losses.batch_loss(balanced, logits_BK, y_B)
    halves = (
        losses.batch_loss(balanced, logits_BK[0::2], y_B[0::2])
        + losses.batch_loss(balanced, logits_BK[1::2], y_B[1::2])
    ) / 2
    assert torch.allclose(whole, halves)  # what lets workers share a batch


def test_no_batch_of_one_and_every_clip_once() -> None:
    for clips in range(1, 40):
        bounds = network.batch_bounds(clips, 8)
        assert [a for a, _ in bounds] == [0, *(b for _, b in bounds[:-1])]
        assert bounds[-1][1] == clips
        assert clips == 1 or all(b - a > 1 for a, b in bounds)


def test_scales_come_from_the_training_clips() -> None:
    rng = np.random.default_rng(0)
    train, held = (
        rng.normal(5, 2, (6, 2, 4, 4)).astype(np.float32),
        rng.normal(-9, 1, (3, 2, 4, 4)).astype(np.float32),
    )
    scale = fold_inputs.ChannelScale.of(train)
    scaled, other = scale.apply(train), scale.apply(held)
    assert np.allclose(scaled.mean(axis=(0, 2, 3)), 0, atol=1e-5)
    assert np.allclose(scaled.std(axis=(0, 2, 3)), 1, atol=1e-5)
    mean, std = train.mean(axis=(0, 2, 3), keepdims=True), train.std(axis=(0, 2, 3), keepdims=True)
    assert np.allclose(other, (held - mean) / std, atol=1e-4)


def test_the_rate_falls_in_steps_as_pytorch_s_own_schedule_does() -> None:
    config = TrainConfig(lr=0.1, schedule="step", step_epochs=3, step_factor=0.5)
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    theirs = torch.optim.lr_scheduler.StepLR(optimiser, 3, 0.5)
    for epoch in range(10):
        assert network.learning_rate(config, epoch) == pytest.approx(
            optimiser.param_groups[0]["lr"], rel=1e-12
        )
        optimiser.step()
        theirs.step()
    assert {network.learning_rate(TrainConfig(lr=0.1), epoch) for epoch in range(10)} == {0.1}


def test_the_schedule_reaches_the_optimiser() -> None:
    """A factor that all but stops the training after one epoch leaves the weights of that epoch."""
    clips = toy.clips()
    inputs = toy.inputs(clips)
    stop = {"schedule": "step", "step_epochs": 1, "step_factor": 1e-12}
    curves = [
        fit_fold(toy.jobs(toy.config(train={"epochs": 6, **more}), clips)[0], inputs).curves["train_loss"]
        for more in (stop, {})
    ]
    assert curves[0][0] == curves[1][0]
    assert curves[1][-1] < curves[0][-1]


def test_the_fused_optimiser_is_the_plain_one() -> None:
    """The same update as the loop a user would write, within float noise."""
    results = []
    for fused in (True, False):
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.SELU(), torch.nn.Linear(8, 3))
        kind = (
            network.make_optimiser(net, TrainConfig(lr=1e-2))
            if fused
            else torch.optim.Adam(net.parameters(), lr=1e-2)
        )
        for _ in range(5):
            kind.zero_grad()
            losses.batch_loss(losses.ce, net(torch.ones(4, 8)), torch.tensor([0, 1, 2, 0])).backward()
            kind.step()
        results.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    assert torch.allclose(results[0], results[1], atol=1e-6)


@pytest.mark.parametrize("selection", ["fixed", "inner"])
def test_a_training_that_diverged_is_no_result(selection: str) -> None:
    clips = toy.clips()
    job = toy.jobs(
        toy.config(train={"optimiser": "sgd", "lr": 1e12, "selection": selection, "inner_folds": 2}), clips
    )[0]
    with pytest.raises(BadInput, match=r"fold toy/s0: the training diverged .* lower train\.lr"):
        fit_fold(job, toy.inputs(clips))


def test_an_optimiser_s_state_takes_the_layout_of_its_weights() -> None:
    """A checkpoint written where weights lie otherwise (a GPU's, say) goes on with the same step."""
    torch.manual_seed(0)
    nets = [torch.nn.Conv2d(3, 4, 3) for _ in range(2)]
    nets[1].to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimisers = [network.make_optimiser(net, TrainConfig(lr=0.1)) for net in nets]
    x_BCHW = torch.randn(2, 3, 8, 8)

    def step(i: int) -> None:
        optimisers[i].zero_grad()
        nets[i](x_BCHW).square().sum().backward()
        optimisers[i].step()

    step(0)
    nets[1].load_state_dict(nets[0].state_dict())
    network.load_optimiser(optimisers[1], copy.deepcopy(optimisers[0].state_dict()))
    step(0)
    step(1)
    torch.testing.assert_close(nets[1].weight, nets[0].weight, rtol=0, atol=1e-5, check_stride=False)
