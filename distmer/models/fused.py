"""Batch norm and the max-pooling behind it in one, for training on CPUs: the full-size normalised map is
never made.

Batch norm is affine in each channel. So it can follow the pooling, if channels whose scale is negative are
pooled by their minimum. Its statistics are still those of all pixels. In the backward pass, the gradient of
the map is one affine pass over the map, plus what the pooling scatters. PyTorch's own kernels pass a dozen
times over a map of few channels, channels last. On GPUs nothing is changed: cuDNN's kernels are fast.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


def fusible(x_BCHW: Tensor, norm: nn.BatchNorm2d) -> bool:
    """Whether `norm_pool` is faster than the separate layers: in training, on a CPU."""
    return norm.training and x_BCHW.device.type == "cpu"


def norm_pool(
    x_BCHW: Tensor,
    norm: nn.BatchNorm2d,
    kernel: int,
    padding: int = 0,
    *,
    stride: int | None = None,
    relu: bool = False,
    shift_C: Tensor | None = None,
) -> Tensor:
    """``F.max_pool2d(norm(x), kernel, stride, padding)`` within rounding, with the same running statistics.

    Parameters
    ----------
    x_BCHW : the map
    norm : the batch norm, whose running statistics are updated in training
    kernel, padding, stride : of the pooling, px; None is a stride of the kernel's size
    relu : use relu(x) for x; then x is overwritten
    shift_C : without ``relu``, use x + shift for x: the bias of a convolution that was not yet added. In
        training, the batch norm subtracts it again, so its gradient is exactly zero.
    """
    if not fusible(x_BCHW, norm):
        if relu:
            x_BCHW = F.relu(x_BCHW, inplace=True)
        elif shift_C is not None:
            x_BCHW = x_BCHW + shift_C[:, None, None]
        return F.max_pool2d(norm(x_BCHW), kernel, stride, padding)
    assert norm.running_mean is not None and norm.running_var is not None
    assert norm.num_batches_tracked is not None and norm.momentum is not None
    with torch.no_grad():
        if relu:
            x_BCHW.clamp_min_(0)
        mean_C, var_C = _statistics(x_BCHW)
        pixels = x_BCHW.numel() // len(mean_C)
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean_C if shift_C is None else mean_C + shift_C, norm.momentum)
        norm.running_var.lerp_(var_C * (pixels / max(pixels - 1, 1)), norm.momentum)
    inverse_C = (var_C + norm.eps).rsqrt()
    affine_C, pooling = (mean_C, inverse_C, norm.weight, norm.bias, shift_C), (kernel, stride, padding)
    return _NormPool.apply(x_BCHW, *affine_C, pooling, relu)


def _statistics(x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel over clips and pixels: of each column first, then of all columns.

    A row of a channels-last map is W·C numbers side by side, which fill vectors also where C is small. The
    sums are short, too: in single precision, a variance over all pixels at once is wrong by 5e-4 at 128 px.
    """
    clips, channels, height, width = x_BCHW.shape
    rows_RE = x_BCHW.permute(0, 2, 3, 1).reshape(clips * height, width * channels)  # E = W·C numbers in a row
    mean_E, var_E = torch.batch_norm_update_stats(rows_RE, None, None, 0.0)
    mean_WC, var_WC = mean_E.view(width, channels), var_E.view(width, channels)
    return mean_WC.mean(0), var_WC.mean(0) + mean_WC.var(0, correction=0)


class _NormPool(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_BCHW: Tensor,
        mean_C: Tensor,
        inverse_C: Tensor,
        weight_C: Tensor,
        bias_C: Tensor,
        shift_C: Tensor | None,
        pooling: tuple[int, int | None, int],
        relu: bool,
    ) -> Tensor:
        negative_C = weight_C < 0
        if negative_C.any():  # max(−x) = −min(x): such a channel, its mean and its scale change their sign
            sign_C = torch.where(negative_C, -1.0, 1.0).to(x_BCHW.dtype)
            x_BCHW, mean_C, weight_C = x_BCHW * sign_C[:, None, None], mean_C * sign_C, weight_C * sign_C
        else:
            sign_C = None
        pooled_BCHW, index_BCHW = F.max_pool2d(x_BCHW, *pooling, return_indices=True)
        ctx.save_for_backward(x_BCHW, pooled_BCHW, index_BCHW, mean_C, inverse_C, weight_C, sign_C)
        ctx.rectified, ctx.shifted = relu, shift_C is not None
        scale_C = weight_C * inverse_C
        return torch.addcmul((bias_C - mean_C * scale_C)[:, None, None], pooled_BCHW, scale_C[:, None, None])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x_BCHW, pooled_BCHW, index_BCHW, mean_C, inverse_C, weight_C, sign_C = ctx.saved_tensors
        (out_BCHW,) = gradients
        pixels = x_BCHW.numel() // x_BCHW.shape[1]
        bias_C = out_BCHW.sum((0, 2, 3))
        grad_weight_C = ((out_BCHW * pooled_BCHW).sum((0, 2, 3)) - mean_C * bias_C) * inverse_C
        scale_C = weight_C * inverse_C
        slope_C = -scale_C * inverse_C * grad_weight_C / pixels
        offset_C = -scale_C * bias_C / pixels - slope_C * mean_C
        grad_BCHW = torch.addcmul(offset_C[:, None, None], x_BCHW, slope_C[:, None, None])
        pooled_grad_BCHW = out_BCHW * scale_C[:, None, None]
        planes = *x_BCHW.shape[:2], -1  # an index counts the pixels of its plane
        grad_BCHW.view(planes).scatter_add_(2, index_BCHW.view(planes), pooled_grad_BCHW.view(planes))
        if sign_C is not None:
            grad_BCHW, grad_weight_C = grad_BCHW.mul_(sign_C[:, None, None]), grad_weight_C * sign_C
            x_BCHW = x_BCHW.abs() if ctx.rectified else x_BCHW
        if ctx.rectified:
            torch.ops.aten.threshold_backward.grad_input(grad_BCHW, x_BCHW, 0, grad_input=grad_BCHW)
        shift_C = torch.zeros_like(bias_C) if ctx.shifted else None
        return grad_BCHW, None, None, grad_weight_C, bias_C, shift_C, None, None
