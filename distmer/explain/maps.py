"""Maps of what an answer rests on: Grad-CAM, the attention of CBAM, occlusion, coefficients.

A map is not negative, and belongs to one clip and one class, the *target*. It has a side of its own (that of
a feature map, or of the input), and always covers the whole aligned frame. Maps of an ensemble are the mean
over its networks; those of a symmetric model are the mean over the clip and its mirror image, turned back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from distmer.models.layers import ChannelAttention, SpatialAttention
from distmer.training.averaging import Ensemble, Mirror, SymmetricClassical, SymmetricNetwork
from distmer.training.fit import Fitted
from distmer.training.runtime import to_device
from distmer.types import FloatArray, IntArray

INPUT, GRAD_CAM, OCCLUSION = "motion", "Grad-CAM", "occlusion"
SPATIAL, COEFFICIENTS = "CBAM, spatial", "coefficients"
WINDOW = 8  # an occluded square is this part of the side
_STEPS = 2  # squares begin at this part of their own side
_BATCH = 128  # clips
_ROUNDING = 1e-5  # of a logit: what a batch of another size may change

View = tuple[nn.Module, Mirror | None]  # a network, and what mirrors the clips that it is given


def input_map(x_NCHW: FloatArray, blank_1C11: FloatArray) -> FloatArray:
    """map_NHW: how far the input is from no motion, summed over the channels. It needs no model."""
    return np.abs(x_NCHW - blank_1C11).sum(axis=1)


def maps_of(
    fitted: Fitted, x_NCHW: FloatArray, target_N: IntArray, blank_1C11: FloatArray
) -> dict[str, FloatArray]:
    """map_NHW of each method that fits the model, by its name.

    ``x_NCHW`` are inputs that are not yet standardised, ``blank_1C11`` is the value of no motion in each
    channel.
    """
    found = {OCCLUSION: occlusion(fitted, x_NCHW, target_N, blank_1C11)}
    if isinstance(fitted.model, nn.Module):
        for name, method in ((GRAD_CAM, grad_cam), (SPATIAL, spatial_attention)):
            map_NHW = _over_views(fitted, x_NCHW, target_N, method)
            if map_NHW is not None:
                found[name] = map_NHW
    else:
        map_KHW = coefficients(fitted.model, x_NCHW.shape[1:])
        if map_KHW is not None:
            found[COEFFICIENTS] = map_KHW[target_N]
    return found


def occlusion(fitted: Fitted, x_NCHW: FloatArray, target_N: IntArray, blank_1C11: FloatArray) -> FloatArray:
    """map_NHW: how much of the target's probability is lost if a square shows no motion.

    A pixel has the mean over the squares that cover it; a gain counts as 0. Zeiler & Fergus, ECCV 2014.
    """
    rows_N, side = np.arange(len(x_NCHW)), x_NCHW.shape[2]
    square = max(1, round(side / WINDOW))
    starts = np.unique(np.linspace(0, side - square, _STEPS * (WINDOW - 1) + 1).round().astype(int)).tolist()
    before_N = fitted.predict(x_NCHW.copy())[rows_N, target_N]
    rounding_N = _ROUNDING * before_N * (1 - before_N)
    lost_NHW = np.zeros((len(x_NCHW), side, side))
    times_HW = np.zeros((side, side))
    parts = [np.s_[top : top + square, left : left + square] for top in starts for left in starts]
    together = max(1, _BATCH // len(x_NCHW))
    for begin in range(0, len(parts), together):
        some = parts[begin : begin + together]
        hidden_SNCHW = np.repeat(x_NCHW[None], len(some), axis=0)
        for hidden_NCHW, part in zip(hidden_SNCHW, some, strict=True):
            hidden_NCHW[:, :, *part] = blank_1C11
        prob_MK = fitted.predict(hidden_SNCHW.reshape(-1, *x_NCHW.shape[1:]))
        prob_SNK = prob_MK.reshape(len(some), len(x_NCHW), -1)
        for prob_NK, part in zip(prob_SNK, some, strict=True):
            lost_N = before_N - prob_NK[rows_N, target_N]
            lost_NHW[:, *part] += np.where(lost_N > rounding_N, lost_N, 0)[:, None, None]
            times_HW[part] += 1
    return lost_NHW / times_HW


def grad_cam(net: nn.Module, x_NCHW: Tensor, target_N: Tensor) -> Tensor | None:
    """map_NHW at the network's last feature maps: their channels, weighted by how the target's logit changes
    with them, where the sum is positive. None where the network has no feature maps.

    Selvaraju et al., ICCV 2017.
    """
    last: list[Tensor] = []

    def keep(module: nn.Module, given: Any, out: Any) -> None:
        if torch.is_tensor(out) and out.ndim == 4 and min(out.shape[2:]) > 1 and len(out) == len(x_NCHW):
            last[:] = [out]

    with _hooked(net.modules(), keep):
        logits_NK = net(x_NCHW)
    if not last:
        return None
    score = logits_NK.gather(1, target_N[:, None]).sum()
    (slope_NCHW,) = torch.autograd.grad(score, last, allow_unused=True)
    if slope_NCHW is None:  # of a branch that the answer does not use
        return None
    return (slope_NCHW.mean((2, 3), keepdim=True) * last[0]).sum(1).relu().detach()


def spatial_attention(net: nn.Module, x_NCHW: Tensor, target_N: Tensor) -> Tensor | None:
    """map_NHW: the weights of CBAM's last spatial attention, as the mean over the streams. They do not depend
    on the target. None where the network has no such layer."""
    layers = [layer.conv for layer in net.modules() if isinstance(layer, SpatialAttention)]
    found = _last_output(net, layers, x_NCHW)
    return None if found is None else torch.sigmoid(found).mean(1)


def channel_attention(fitted: Fitted, x_NCHW: FloatArray) -> FloatArray | None:
    """weight_NS: the mean weight that CBAM's last channel attention gives the channels of each of its S
    streams. None where the model has no such layer."""

    def weights(net: nn.Module, x_NCHW: Tensor, target_N: Tensor) -> Tensor | None:
        layers = [layer.mlp for layer in net.modules() if isinstance(layer, ChannelAttention)]
        found = _last_output(net, layers, x_NCHW)
        if found is None:
            return None
        streams = int(getattr(layers[-1][0], "groups", 1))
        weight_NC = torch.sigmoid(found.sum(3)).flatten(1)
        return weight_NC.unflatten(1, (streams, -1)).mean(2)[..., None]  # a mirror changes nothing in it

    if not isinstance(fitted.model, nn.Module):
        return None
    found = _over_views(fitted, x_NCHW, np.zeros(len(x_NCHW), np.int64), weights)
    return None if found is None else found[..., 0]


def coefficients(model: Any, shape: tuple[int, ...]) -> FloatArray | None:
    """map_KHW of a linear classifier: the size of each class's coefficients for inputs in standard
    deviations, summed over the channels. None where the classifier has none.

    With two classes, scikit-learn keeps one row, which serves both.
    """
    if isinstance(model, SymmetricClassical):
        map_KHW = coefficients(model.model, shape)
        return None if map_KHW is None else (map_KHW + map_KHW[..., ::-1]) / 2
    pipeline = vars(model).get("_pipeline")
    last = None if pipeline is None else pipeline[-1]
    coef_SD = np.asarray(getattr(last, "coef_", np.empty((0, 0))))
    if coef_SD.ndim != 2 or coef_SD.shape[1] != np.prod(shape):
        return None
    seen_S = vars(model)["_seen_S"]
    map_KHW = np.zeros((int(vars(model)["_classes"]), *shape[1:]))
    map_KHW[seen_S] = np.abs(coef_SD).reshape(-1, *shape).sum(axis=1)
    return map_KHW


def views(model: nn.Module) -> Iterator[View]:
    """The networks whose answers a model averages, each with its mirror, if it is given mirrored clips."""
    if isinstance(model, SymmetricNetwork):
        for mirror in (None, model.mirror):
            yield from ((net, mirror) for net, _ in views(model.net))
    elif isinstance(model, Ensemble):
        for net in model.nets:
            yield from views(net)
    else:
        yield model, None


def _over_views(
    fitted: Fitted,
    x_NCHW: FloatArray,
    target_N: IntArray,
    method: Callable[[nn.Module, Tensor, Tensor], Tensor | None],
) -> FloatArray | None:
    """The mean of a method's maps over the views of a network; None where a view has none."""
    x_NCHW = x_NCHW if fitted.scale is None else fitted.scale.apply(x_NCHW)
    device = next(fitted.model.parameters()).device
    parts: list[Tensor] = []
    for begin in range(0, len(x_NCHW), _BATCH):
        x_BCHW = to_device(np.ascontiguousarray(x_NCHW[begin : begin + _BATCH]), device)
        target_B = torch.from_numpy(target_N[begin : begin + _BATCH].astype(np.int64)).to(device)
        maps: list[Tensor] = []
        for net, mirror in views(fitted.model):
            found = method(net, x_BCHW if mirror is None else mirror(x_BCHW), target_B)
            if found is None:
                return None
            maps.append(found if mirror is None else found.flip(-1))
        parts.append(torch.stack(maps).mean(0))
    return torch.cat(parts).double().cpu().numpy()


def _last_output(net: nn.Module, layers: list[Any], x_NCHW: Tensor) -> Tensor | None:
    """What the last of these layers gives for the clips; None where there is no layer."""
    if not layers:
        return None
    kept: list[Tensor] = []
    with torch.no_grad(), _hooked(layers[-1:], lambda module, given, out: kept.append(out)):
        net(x_NCHW)
    return kept[-1] if kept and len(kept[-1]) == len(x_NCHW) else None


@contextmanager
def _hooked(modules: Iterable[nn.Module], keep: Callable[[nn.Module, Any, Any], None]) -> Iterator[None]:
    """These modules call ``keep`` with what they are given and what they give, within the block."""
    handles = [module.register_forward_hook(keep) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
