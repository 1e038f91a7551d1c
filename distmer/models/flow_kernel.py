"""Kernel ridge regression on four descriptions of the flow: a deterministic model that needs no GPU and takes
seconds.

The four blocks of features describe one flow field: its pixels, its first derivatives on a coarse grid (how
much the skin expands, shears and turns), the same derivatives pooled by sign, and histograms of the
directions in which the flow changes (motion-boundary histograms, Dalal et al. 2006). A block's kernel is
Gaussian, and it is averaged over a clip and its mirror image, so that a face and the same face in a mirror
get the same answer.

Nothing here is drawn at random: the seed changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Literal

import numpy as np
from pydantic import Field, model_validator
from threadpoolctl import threadpool_limits

from distmer.models.base import Classical, ModelInfo, Options
from distmer.types import FloatArray, IntArray

Block = Literal["pixels", "derivatives", "signed", "boundaries"]
BLOCKS: tuple[Block, ...] = ("pixels", "derivatives", "signed", "boundaries")
_PIXELS, _CELLS, _ORIENTATIONS = 10, 7, 8
_POOLING = 0.35  # of a cell: the standard deviation of the Gaussian weights that pool it
# by which v is multiplied where the two components have lost their common scale
_FACTORS = np.geomspace(1 / 8, 8, 31)
_TINY = 1e-8
# The grid over which `ensemble` averages, as multiples of ``gamma`` and of ``ridge``.
_GRID = tuple(product((0.5, 1.0, 2.0), (0.5, 1.0, 2.0)))


class FlowKernelOptions(Options):
    """The width of the kernels, the penalty, and which blocks take part."""

    size: int = Field(default=28, ge=14, le=512)
    gamma: float = Field(default=0.3, gt=0)  # of a Gaussian kernel exp(-gamma * mean squared difference)
    ridge: float = Field(default=0.5, gt=0)  # the penalty of a clip of a class of average size
    blocks: tuple[Block, ...] = Field(default=BLOCKS, min_length=1)
    # Find again how large v was beside u, where each component was scaled on its own: the factor whose strain
    # is nearest to the strain map. Maps that still have their scale need none.
    recover_scale: bool = True
    ensemble: bool = False  # the mean answer over a grid around gamma and ridge, in place of one pair

    @model_validator(mode="after")
    def _blocks_are_distinct(self) -> FlowKernelOptions:
        if len(set(self.blocks)) != len(self.blocks):
            raise ValueError(f"blocks must be distinct, not {list(self.blocks)}")
        return self


class FlowKernel:
    """See the module. Fitted to x_NCHW with the channels u, v, strain; answers with prob_NK over all K
    classes.

    The probabilities are the softmax of the regression's scores, which order the classes; they are not
    calibrated.
    """

    def __init__(self, options: FlowKernelOptions, classes: int) -> None:
        self._options = options
        self._classes = classes
        self._scalers: list[tuple[FloatArray, FloatArray]] = []
        self._train: list[FloatArray] = []  # block by block, standardised
        # gamma, and the coefficients alpha_NK that go with it
        self._answers: list[tuple[float, FloatArray]] = []
        self._seen_K = np.zeros(classes, dtype=bool)  # the classes of the training clips

    def fit(self, x_NCHW: FloatArray, y_N: IntArray, seed: int) -> FlowKernel:
        with threadpool_limits(limits=1):  # another number of threads would sum in another order
            return self._fit(x_NCHW, y_N)

    def predict_proba(self, x_NCHW: FloatArray) -> FloatArray:
        if not self._answers:
            raise ValueError("predict_proba was called before fit")
        if not len(x_NCHW):
            return np.zeros((0, self._classes))
        with threadpool_limits(limits=1):
            return self._predict(x_NCHW)

    def _fit(self, x_NCHW: FloatArray, y_N: IntArray) -> FlowKernel:
        blocks, mirrors = self._features(x_NCHW)
        both = [np.concatenate([block, mirror]) for block, mirror in zip(blocks, mirrors, strict=True)]
        self._scalers = [(block.mean(0), np.maximum(block.std(0), _TINY)) for block in both]
        self._train = self._standardised(blocks)
        mirrored = self._standardised(mirrors)
        squared = [_squared(block, block) for block in self._train]
        squared_mirrored = [
            _squared(block, mirror) for block, mirror in zip(self._train, mirrored, strict=True)
        ]
        count_K = np.bincount(y_N, minlength=self._classes)
        self._seen_K = count_K > 0
        target_NK = np.eye(self._classes)[y_N] - 1 / self._classes
        # A clip of a rare class is penalised less, so it is fitted more closely.
        penalty_N = count_K[y_N] * self._seen_K.sum() / len(y_N)
        self._answers = []
        for gamma, ridge in self._pairs():
            kernel_NN = _kernel(squared, squared_mirrored, gamma)
            kernel_NN = (kernel_NN + kernel_NN.T) / 2  # equal but for the rounding
            self._answers.append((gamma, np.linalg.solve(kernel_NN + ridge * np.diag(penalty_N), target_NK)))
        return self

    def _predict(self, x_NCHW: FloatArray) -> FloatArray:
        blocks, mirrors = self._features(x_NCHW)
        squared = [_squared(a, b) for a, b in zip(self._standardised(blocks), self._train, strict=True)]
        mirrored = [_squared(a, b) for a, b in zip(self._standardised(mirrors), self._train, strict=True)]
        score_NK = np.mean(
            [_kernel(squared, mirrored, gamma) @ alpha_NK for gamma, alpha_NK in self._answers], axis=0
        )
        score_NK[:, ~self._seen_K] = -np.inf  # a class that training lacks is never the answer
        exp_NK = np.exp(score_NK - score_NK.max(1, keepdims=True))
        return exp_NK / exp_NK.sum(1, keepdims=True)

    def _pairs(self) -> list[tuple[float, float]]:
        """(gamma, ridge), each of which gives an answer; the mean of all answers is the model's."""
        options = self._options
        if not options.ensemble:
            return [(options.gamma, options.ridge)]
        return [(options.gamma * a, options.ridge * b) for a, b in _GRID]

    def _features(self, x_NCHW: FloatArray) -> tuple[list[FloatArray], list[FloatArray]]:
        """The blocks of the clips, and those of their mirror images."""
        u_NHW, v_NHW = centred_flow(np.asarray(x_NCHW, np.float64), self._options.recover_scale)
        describe = [_DESCRIBE[name] for name in self._options.blocks]
        return (
            [block(u_NHW, v_NHW) for block in describe],
            [block(-u_NHW[..., ::-1], v_NHW[..., ::-1]) for block in describe],
        )

    def _standardised(self, blocks: Sequence[FloatArray]) -> list[FloatArray]:
        return [(block - mean) / scale for block, (mean, scale) in zip(blocks, self._scalers, strict=True)]


def centred_flow(x_NCHW: FloatArray, recover_scale: bool) -> tuple[FloatArray, FloatArray]:
    """(u_NHW, v_NHW), each less its own median, and v on the scale of u where ``recover_scale`` asks for it.

    Published maps hold u and v each stretched to 0..1, so that their ratio is lost; but the third map is the
    strain of the true flow. Of 31 factors, the one is taken whose strain correlates best with that map.
    """
    u_NHW, v_NHW = (x_NCHW[:, c] - np.median(x_NCHW[:, c], axis=(1, 2), keepdims=True) for c in (0, 1))
    if not recover_scale:
        return u_NHW, v_NHW
    uy_NHW, ux_NHW = np.gradient(u_NHW, axis=(1, 2))
    vy_NHW, vx_NHW = np.gradient(v_NHW, axis=(1, 2))
    strain_NX = _rows(x_NCHW[:, 2])
    fit_FN = np.empty((len(_FACTORS), len(u_NHW)))
    for f, factor in enumerate(_FACTORS):
        shear_NHW = (uy_NHW + factor * vx_NHW) / 2
        of_factor_NHW = np.sqrt(ux_NHW**2 + (factor * vy_NHW) ** 2 + 2 * shear_NHW**2)
        fit_FN[f] = _correlation(_rows(of_factor_NHW), strain_NX)
    return u_NHW, v_NHW * _FACTORS[fit_FN.argmax(0)][:, None, None]


def _pixels(u_NHW: FloatArray, v_NHW: FloatArray) -> FloatArray:
    """u and v, each over its own standard deviation, as means of 10 × 10 areas."""
    parts = [f / np.maximum(f.std(axis=(1, 2), keepdims=True), _TINY) for f in (u_NHW, v_NHW)]
    return np.concatenate([_rows(_area_mean(part, _PIXELS)) for part in parts], axis=1)


def _derivatives(u_NHW: FloatArray, v_NHW: FloatArray) -> FloatArray:
    """Divergence, both shears and curl of the blurred flow, over their common root mean square, on a 7 × 7
    grid."""
    return np.concatenate([_rows(_area_mean(part, _CELLS)) for part in _deformation(u_NHW, v_NHW)], axis=1)


def _signed(u_NHW: FloatArray, v_NHW: FloatArray) -> FloatArray:
    """The same four, their positive and their negative parts pooled apart on the grid."""
    parts = [np.maximum(sign * part, 0) for part in _deformation(u_NHW, v_NHW) for sign in (1, -1)]
    return _pooled(parts)


def _boundaries(u_NHW: FloatArray, v_NHW: FloatArray) -> FloatArray:
    """Motion-boundary histograms: 8 directions of the gradients of u and of v, pooled on the grid."""
    parts: list[FloatArray] = []
    for field_NHW in (u_NHW, v_NHW):
        gx_NHW, gy_NHW = _gradient(field_NHW, 1.0)
        length_NHW = np.hypot(gx_NHW, gy_NHW)
        # a direction between two bins counts in both
        place_NHW = np.arctan2(gy_NHW, gx_NHW) / (2 * np.pi) * _ORIENTATIONS
        for direction in range(_ORIENTATIONS):
            apart_NHW = np.abs(
                (place_NHW - direction + _ORIENTATIONS / 2) % _ORIENTATIONS - _ORIENTATIONS / 2
            )
            parts.append(length_NHW * np.maximum(1 - apart_NHW, 0))
    return _pooled(parts)


_DESCRIBE: dict[Block, Callable[[FloatArray, FloatArray], FloatArray]] = {
    "pixels": _pixels,
    "derivatives": _derivatives,
    "signed": _signed,
    "boundaries": _boundaries,
}


def _deformation(u_NHW: FloatArray, v_NHW: FloatArray) -> list[FloatArray]:
    ux_NHW, uy_NHW = _gradient(u_NHW, 1.5)
    vx_NHW, vy_NHW = _gradient(v_NHW, 1.5)
    parts = [ux_NHW + vy_NHW, ux_NHW - vy_NHW, uy_NHW + vx_NHW, vx_NHW - uy_NHW]
    rms_N11 = np.sqrt(np.mean([np.mean(part**2, axis=(1, 2), keepdims=True) for part in parts], axis=0))
    return [part / np.maximum(rms_N11, _TINY) for part in parts]


def _gradient(field_NHW: FloatArray, sigma: float) -> tuple[FloatArray, FloatArray]:
    """The derivatives to the right and downwards of the field blurred by a Gaussian of ``sigma`` px."""
    from scipy.ndimage import gaussian_filter1d as blur

    along_x = blur(blur(field_NHW, sigma, axis=2, order=1), sigma, axis=1)
    along_y = blur(blur(field_NHW, sigma, axis=1, order=1), sigma, axis=2)
    return along_x, along_y


def _pooled(parts: Sequence[FloatArray]) -> FloatArray:
    """Each map pooled by Gaussian weights around the centres of a 7 × 7 grid; all of a clip sum to 1; square
    roots."""
    height, width = parts[0].shape[1:]
    rows_GH, columns_GW = _weights(height), _weights(width)
    cells = [np.einsum("gh,nhw,kw->ngk", rows_GH, part, columns_GW, optimize=True) for part in parts]
    pooled_NX = np.concatenate([_rows(cell) for cell in cells], axis=1)
    return np.sqrt(pooled_NX / np.maximum(pooled_NX.sum(1, keepdims=True), _TINY))


def _weights(side: int) -> FloatArray:
    centre_G = (np.arange(_CELLS) + 0.5) * side / _CELLS - 0.5
    apart_GH = (np.arange(side)[None] - centre_G[:, None]) / (_POOLING * side / _CELLS)
    return np.exp(-0.5 * apart_GH**2)


def _area_mean(field_NHW: FloatArray, side: int) -> FloatArray:
    """The field as means of ``side`` × ``side`` areas, a pixel on a border shared by the areas beside it."""
    rows, columns = (_overlap(n, side) for n in field_NHW.shape[1:])
    return np.einsum("gh,nhw,kw->ngk", rows, field_NHW, columns, optimize=True)


def _overlap(pixels: int, areas: int) -> FloatArray:
    edge = np.linspace(0, pixels, areas + 1)
    left, right = edge[:-1, None], edge[1:, None]
    at = np.arange(pixels)[None]
    return np.maximum(np.minimum(right, at + 1) - np.maximum(left, at), 0) * areas / pixels


def _kernel(squared: Sequence[FloatArray], mirrored: Sequence[FloatArray], gamma: float) -> FloatArray:
    """The mean over the blocks of ½ (k(x, y) + k(x, mirror y)), with k Gaussian in the mean squared
    difference."""
    return np.mean(
        [(np.exp(-gamma * a) + np.exp(-gamma * b)) / 2 for a, b in zip(squared, mirrored, strict=True)],
        axis=0,
    )


def _squared(a_ND: FloatArray, b_MD: FloatArray) -> FloatArray:
    """Mean squared differences of each row of ``a`` and each row of ``b``."""
    squares_NM = (a_ND**2).sum(1)[:, None] + (b_MD**2).sum(1)[None] - 2 * a_ND @ b_MD.T
    return np.maximum(squares_NM, 0) / a_ND.shape[1]


def _correlation(a_NX: FloatArray, b_NX: FloatArray) -> FloatArray:
    a_NX, b_NX = (x - x.mean(1, keepdims=True) for x in (a_NX, b_NX))
    return (a_NX * b_NX).sum(1) / np.maximum(np.sqrt((a_NX**2).sum(1) * (b_NX**2).sum(1)), _TINY)


def _rows(field_NHW: FloatArray) -> FloatArray:
    return field_NHW.reshape(len(field_NHW), -1)


def _inputs(options: FlowKernelOptions) -> tuple[str, ...]:
    return ("u", "v", "strain")


def _build(options: FlowKernelOptions, classes: int) -> Classical:
    return FlowKernel(options, classes)


MODEL = ModelInfo(
    name="flow_kernel",
    title="Kernel ridge regression on four descriptions of the flow",
    citation=(
        "distmer's own; motion-boundary histograms after Dalal N., Triggs B., Schmid C., Human detection"
        " using oriented"
        " histograms of flow and appearance, ECCV 2006; kernel ridge regression after Saunders C.,"
        " Gammerman A., Vovk V.,"
        " Ridge regression learning algorithm in dual variables, ICML 1998"
    ),
    kind="classical",
    options=FlowKernelOptions,
    inputs=_inputs,
    build=_build,
    min_size=14,
    native_size=28,
)
