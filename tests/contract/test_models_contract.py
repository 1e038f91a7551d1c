"""What every registered model promises. A new model file is tested by being there."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
import torch

from distmer.config import ModelConfig, TrainConfig
from distmer.digests import digest
from distmer.features.featureset import is_channel
from distmer.models import ResolvedModel, models, parameters, resolve
from distmer.training.network import Task, predict, train_network
from distmer.training.runtime import SingleProcess
from distmer.types import BadInput

ALL = sorted(models())
VARIANTS = [
    (name, variant) for name in ALL if models()[name].kind == "torch" for variant in models()[name].variants
]
CLASSICAL = [name for name in ALL if models()[name].kind == "classical"]
SIZES = ("min_size", "native_size")


LIGHT = 8_000_000  # parameters; beyond, only the shapes are followed


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """On a busy machine, threads that wait for each other take ten times as long as one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _resolved(name: str, size: str | int = "min_size", variant: str | None = None) -> ResolvedModel:
    info = models()[name]
    choice = {"variant": variant} if variant and "variant" in info.options.model_fields else {}
    return resolve(
        ModelConfig.model_validate(
            {"name": name, "size": getattr(info, size) if isinstance(size, str) else size, **choice}
        )
    )


def _maps(resolved: ResolvedModel, n: int, seed: int = 0) -> torch.Tensor:
    shape = (n, len(resolved.inputs), resolved.size, resolved.size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _built(resolved: ResolvedModel, seed: int = 0, classes: int = 3) -> torch.nn.Module:
    torch.manual_seed(seed)
    return resolved.build(classes)


@pytest.mark.parametrize("name", ALL)
def test_it_is_described(name: str) -> None:
    info = models()[name]
    resolved = resolve(ModelConfig(name=name))
    assert info.title and info.citation
    assert info.min_size <= info.native_size == resolved.size
    assert resolved.inputs and all(map(is_channel, resolved.inputs))
    assert resolved.module.startswith("distmer.models.")


@pytest.mark.parametrize("name", ALL)
def test_its_spec_is_json_and_resolves_to_itself(name: str) -> None:
    spec = resolve(ModelConfig(name=name)).spec
    assert spec["name"] == name and "size" in spec["options"]
    again = json.loads(json.dumps(spec))
    assert digest(
        resolve(ModelConfig.model_validate({"name": again["name"], **again["options"]})).spec
    ) == digest(spec)


@pytest.mark.parametrize("name", ALL)
def test_it_refuses_what_it_does_not_know(name: str) -> None:
    with pytest.raises(BadInput, match="did you mean 'size'"):
        resolve(ModelConfig.model_validate({"name": name, "siz": 32}))
    with pytest.raises(BadInput, match=r"size"):
        resolve(ModelConfig.model_validate({"name": name, "size": models()[name].min_size - 1}))


def test_an_unknown_model_names_the_nearest() -> None:
    with pytest.raises(BadInput, match="did you mean 'atscnn'"):
        resolve(ModelConfig(name="atcnn"))


def test_importing_the_package_loads_no_framework() -> None:
    code = (
        "import sys, distmer.models; sys.exit(any(m in sys.modules for m in ('torch', 'sklearn', 'ray',"
        " 'mlflow')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("size", [*SIZES, 28, 128])
@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_it_gives_one_logit_a_class(name: str, variant: str, size: str | int) -> None:
    if isinstance(size, int) and size < models()[name].min_size:
        with pytest.raises(BadInput, match="size"):
            _resolved(name, size, variant)
        return
    resolved = _resolved(name, size, variant)
    light = (parameters(resolved) or 0) <= LIGHT and resolved.size <= 128
    for classes in (2, 3, 5):
        with torch.device("cpu" if light else "meta"):
            x_BCHW = (
                _maps(resolved, 2)
                if light
                else torch.empty(2, len(resolved.inputs), resolved.size, resolved.size)
            )
            logits_BK = _built(resolved, classes=classes)(x_BCHW)
        assert logits_BK.shape == (2, classes)
        assert not light or logits_BK.isfinite().all()


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_every_side_from_the_smallest_on_fits(name: str, variant: str) -> None:
    """Odd sides too: what the poolings leave is what the dense layers expect."""
    smallest = models()[name].min_size
    for size in (*range(smallest, smallest + 12), 63, 127):
        resolved = _resolved(name, size, variant)
        with torch.device("meta"):
            assert resolved.build(3).eval()(torch.empty(1, len(resolved.inputs), size, size)).shape == (1, 3)


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_gradient_reaches_every_parameter(name: str, variant: str) -> None:
    """In eval mode: a bias in front of a training batch norm has the gradient 0 by construction. Some draws
    of weights may silence a ReLU for all clips (Off-TANet's channel attention has a single hidden unit), but
    not all draws."""
    resolved = _resolved(name, variant=variant)
    if "package" in type(resolved.options).model_fields:
        pytest.skip("its package says how it begins: timm's residual branches begin with zero")
    dead = {key for key, _ in _built(resolved).named_parameters()}
    for seed in range(6):
        model = _built(resolved, seed).eval()
        torch.nn.functional.cross_entropy(
            model(_maps(resolved, 6)), torch.tensor([0, 1, 2, 0, 1, 2])
        ).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        dead -= {key for key, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        if not dead:
            return
    pytest.fail(f"no gradient in any of six draws: {sorted(dead)}")


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_the_seed_decides_the_weights(name: str, variant: str) -> None:
    resolved = _resolved(name, variant=variant)
    first, second, other = (_built(resolved, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_its_state_survives_a_file(name: str, variant: str) -> None:
    resolved = _resolved(name, variant=variant)
    model = _built(resolved, 1)
    model(_maps(resolved, 4))  # moves the running statistics
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    copy = _built(resolved, 2)
    copy.load_state_dict(torch.load(file, weights_only=True))
    x_BCHW = _maps(resolved, 3, seed=9)
    assert torch.equal(model.eval()(x_BCHW), copy.eval()(x_BCHW))


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_in_eval_mode_a_clip_is_alone(name: str, variant: str) -> None:
    resolved = _resolved(name, variant=variant)
    model = _built(resolved).eval()
    x_BCHW = _maps(resolved, 5)
    together_BK = model(x_BCHW)
    alone_BK = torch.cat([model(x_BCHW[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(alone_BK, together_BK, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_a_last_batch_of_one_trains_and_a_fold_of_one_clip_is_predicted(name: str, variant: str) -> None:
    resolved = _resolved(name, variant=variant)
    task = Task(partial(resolved.build, 3), _maps(resolved, 4).numpy(), np.array([0, 1, 2, 0]), 3)
    net, losses = train_network(task, TrainConfig(batch_size=3), 1, 0, SingleProcess())
    prob_NK = predict(net, _maps(resolved, 1, seed=5).numpy())
    assert prob_NK.shape == (1, 3) and np.allclose(prob_NK.sum(1), 1) and np.isfinite(losses).all()


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_parameters_counts_what_is_built(name: str, variant: str) -> None:
    resolved = _resolved(name, variant=variant)
    assert parameters(resolved) == sum(p.numel() for p in _built(resolved).parameters())


def _training(
    resolved: ResolvedModel, classes: tuple[int, ...], n: int = 24
) -> tuple[np.ndarray, np.ndarray]:
    y_N = np.array([classes[i % len(classes)] for i in range(n)])
    x_NCHW = _maps(resolved, n).numpy().astype(np.float32) + 0.5 * y_N[:, None, None, None].astype(np.float32)
    return x_NCHW, y_N


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seen", [(0, 1, 2), (0, 2), (1, 2), (2,)])
@pytest.mark.parametrize("name", CLASSICAL)
def test_a_class_that_training_lacks_gets_no_probability(name: str, seen: tuple[int, ...], size: str) -> None:
    resolved = _resolved(name, size)
    x_NCHW, y_N = _training(resolved, seen)
    prob_NK = resolved.build(3).fit(x_NCHW, y_N, 0).predict_proba(x_NCHW)
    assert prob_NK.shape == (24, 3) and prob_NK.dtype == np.float64
    np.testing.assert_allclose(prob_NK.sum(1), 1)
    assert not prob_NK[:, sorted({0, 1, 2} - set(seen))].any()
    assert (prob_NK.argmax(1) == y_N).mean() > 0.9  # separable by construction


@pytest.mark.parametrize("name", CLASSICAL)
def test_a_classical_model_repeats_itself_and_does_not_mix_clips(name: str) -> None:
    resolved = _resolved(name)
    x_NCHW, y_N = _training(resolved, (0, 1, 2))
    fitted = resolved.build(3).fit(x_NCHW, y_N, 0)
    prob_NK = fitted.predict_proba(x_NCHW)
    np.testing.assert_array_equal(resolved.build(3).fit(x_NCHW, y_N, 0).predict_proba(x_NCHW), prob_NK)
    np.testing.assert_allclose(
        np.concatenate([fitted.predict_proba(x_NCHW[i : i + 1]) for i in range(24)]), prob_NK, atol=1e-12
    )
    assert fitted.predict_proba(x_NCHW[:0]).shape == (0, 3)
    assert parameters(resolved) is None


@pytest.mark.parametrize("name", CLASSICAL)
def test_predicting_before_fitting_is_refused(name: str) -> None:
    resolved = _resolved(name)
    with pytest.raises(ValueError, match="before fit"):
        resolved.build(3).predict_proba(_maps(resolved, 1).numpy())
