"""What every registered model promises. A new model file is tested by being there."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
import torch

from distmer.config import ModelConfig, digest
from distmer.models import Channel, ResolvedModel, models, parameters, resolve
from distmer.types import BadInput

ALL = sorted(models())
TORCH = [name for name in ALL if models()[name].kind == "torch"]
CLASSICAL = [name for name in ALL if models()[name].kind == "classical"]
SIZES = ("min_size", "native_size")


def _resolved(name: str, size: str = "min_size") -> ResolvedModel:
    return resolve(ModelConfig.model_validate({"name": name, "size": getattr(models()[name], size)}))


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
    assert resolved.inputs and set(resolved.inputs) <= set(get_args(Channel))
    assert len(resolved.source_digest) == 64


@pytest.mark.parametrize("name", ALL)
def test_its_spec_is_json_and_resolves_to_itself(name: str) -> None:
    spec = resolve(ModelConfig(name=name)).spec
    assert spec["name"] == name and "size" in spec["options"]
    again = json.loads(json.dumps(spec))
    assert digest(resolve(ModelConfig.model_validate({"name": again["name"], **again["options"]})).spec) == digest(spec)


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
    code = "import sys, distmer.models; sys.exit(any(m in sys.modules for m in ('torch', 'sklearn', 'ray', 'mlflow')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", TORCH)
def test_it_gives_one_logit_a_class(name: str, size: str) -> None:
    resolved = _resolved(name, size)
    for classes in (2, 3, 5):
        logits_BK = _built(resolved, classes=classes)(_maps(resolved, 2))
        assert logits_BK.shape == (2, classes) and logits_BK.isfinite().all()


@pytest.mark.parametrize("name", TORCH)
def test_gradient_reaches_every_parameter(name: str) -> None:
    resolved = _resolved(name)
    # In eval mode: a bias in front of a training batch norm has the gradient 0 by construction.
    model = _built(resolved).eval()
    torch.nn.functional.cross_entropy(model(_maps(resolved, 6)), torch.tensor([0, 1, 2, 0, 1, 2])).backward()
    dead = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()]
    assert not dead


@pytest.mark.parametrize("name", TORCH)
def test_the_seed_decides_the_weights(name: str) -> None:
    resolved = _resolved(name)
    first, second, other = (_built(resolved, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", TORCH)
def test_its_state_survives_a_file(name: str) -> None:
    resolved = _resolved(name)
    model = _built(resolved, 1)
    model(_maps(resolved, 4))  # moves the running statistics
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    copy = _built(resolved, 2)
    copy.load_state_dict(torch.load(file, weights_only=True))
    x_BCHW = _maps(resolved, 3, seed=9)
    assert torch.equal(model.eval()(x_BCHW), copy.eval()(x_BCHW))


@pytest.mark.parametrize("name", TORCH)
def test_in_eval_mode_a_clip_is_alone(name: str) -> None:
    resolved = _resolved(name)
    model = _built(resolved).eval()
    x_BCHW = _maps(resolved, 5)
    together_BK = model(x_BCHW)
    alone_BK = torch.cat([model(x_BCHW[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(alone_BK, together_BK, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", TORCH)
def test_parameters_counts_what_is_built(name: str) -> None:
    resolved = _resolved(name)
    assert parameters(resolved) == sum(p.numel() for p in _built(resolved).parameters())


def _training(resolved: ResolvedModel, classes: tuple[int, ...], n: int = 24) -> tuple[np.ndarray, np.ndarray]:
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
    np.testing.assert_allclose(np.concatenate([fitted.predict_proba(x_NCHW[i : i + 1]) for i in range(24)]), prob_NK, atol=1e-12)
    assert fitted.predict_proba(x_NCHW[:0]).shape == (0, 3)
    assert parameters(resolved) is None


@pytest.mark.parametrize("name", CLASSICAL)
def test_predicting_before_fitting_is_refused(name: str) -> None:
    resolved = _resolved(name)
    with pytest.raises(ValueError, match="before fit"):
        resolved.build(3).predict_proba(_maps(resolved, 1).numpy())
