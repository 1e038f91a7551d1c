"""Small folds made in memory, for tests and benchmarks: the class is written into the maps, with noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from distmer.config import Config
from distmer.digests import digest
from distmer.evaluation.folds import make_folds
from distmer.experiment.plan import shared_spec
from distmer.models import resolve
from distmer.training.fold_inputs import Inputs
from distmer.types import Clip, FloatArray, Fold, FoldJob, IntArray, KeyFrames

SIZE = 16


def config(model: str = "atscnn", **sections: Any) -> Config:
    """A configuration that trains in well under a second."""
    options = {"size": SIZE, "hidden": 16} if model == "atscnn" else {"size": SIZE}
    tree: dict[str, Any] = {
        "model": {"name": model, **options},
        "train": {"epochs": 10, "batch_size": 8, "lr": 3e-3},
    }
    for name, values in sections.items():
        tree[name] = {**tree.get(name, {}), **values}
    return Config.model_validate(tree)


def clips(subjects: int = 4, each: int = 5) -> list[Clip]:
    frames = KeyFrames("onset", "apex")
    return [
        Clip("toy", f"s{s}", f"c{i}", (s + i) % 3, "toy", frames, "toy.csv row 1")
        for s in range(subjects)
        for i in range(each)
    ]


def inputs(some: list[Clip], channels: tuple[str, ...] = ("u", "v", "strain"), noise: float = 0.5) -> Inputs:
    rng = np.random.default_rng(7)
    x = rng.normal(scale=noise, size=(len(some), len(channels), SIZE, SIZE)).astype(np.float32)
    for i, clip in enumerate(some):
        x[i, :, clip.label * 5 : clip.label * 5 + 5] += 1
    return Inputs(tuple(c.id for c in some), channels, "fixed", x)


def maps_and_labels(size: int, channels: int, each: int = 8) -> tuple[FloatArray, IntArray]:
    """Random maps x_NCHW of three classes, and their labels y_N."""
    y_N = np.arange(3 * each) % 3
    return np.random.default_rng(0).random((3 * each, channels, size, size), dtype=np.float32), y_N


def jobs(cfg: Config, some: list[Clip]) -> list[FoldJob]:
    labels = {c.id: c.label for c in some}
    return [
        job_of(cfg, fold, labels, seed) for seed in cfg.seeds for fold in make_folds(some, cfg.evaluation)
    ]


def job_of(cfg: Config, fold: Fold, labels: dict[str, int], seed: int = 0) -> FoldJob:
    spec = {**shared_spec(cfg, resolve(cfg.model), 3), "seed": seed, "fold": fold.id}
    own = {c: labels[c] for c in (*fold.train, *fold.test)}
    return FoldJob(digest(spec), fold, seed, own, spec, cfg.train.keep_weights)


def write_flowmaps(root: Path, subjects: int = 5, each: int = 6) -> Path:
    """A folder in the layout that STSTNet and HTNet publish: maps in which each class has its own bright
    band."""
    for s in range(subjects):
        rng = np.random.default_rng(s)
        for i in range(each):
            label = (s + i) % 3
            image_HW3 = rng.integers(60, 140, size=(28, 28, 3), dtype=np.uint8)
            image_HW3[8 * label : 8 * label + 8] += 60
            folder = root / f"sub{s + 1:02}" / "u_test" / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"sub{s + 1:02}_EP{i:02}_01f .png"), image_HW3)
    return root


def settings(root: Path, *more: str, epochs: int = 3) -> list[str]:
    """Command-line overrides for a run on `write_flowmaps`: a small ATSCNN, seconds in all, unless ``more``
    names another model."""
    network = [
        "model.size=16",
        "model.hidden=16",
        f"train.epochs={epochs}",
        "train.batch_size=8",
        "train.lr=0.003",
    ]
    other = any(setting.startswith("model.name=") for setting in more)
    chosen = [
        "data.protocol=flowmaps",
        f"data.root={root}",
        "inputs.normalise=minmax",
        *([] if other else network),
        *more,
    ]
    last = {setting.partition("=")[0]: setting for setting in chosen}  # of two for the same setting the later
    return [part for setting in last.values() for part in ("--set", setting)]


def sweep_file(folder: Path, maps: Path, **changes: Any) -> Path:
    """A sweep of 4 trials a search over 2 groups of 3 subjects each, seconds in all. None: without that
    setting."""
    sweep: dict[str, Any] = {
        "trials": 4,
        "inner_folds": 3,
        "concurrent": 2,
        "space": {"train.lr": {"loguniform": [1e-4, 1e-2]}, "model.activation": {"choice": ["selu", "relu"]}},
    }
    tree: dict[str, Any] = {
        "name": "small",
        "data": {"protocol": "flowmaps", "root": str(maps)},
        "inputs": {"normalise": "minmax"},
        "model": {"name": "atscnn", "size": 16, "hidden": 16},
        "train": {"epochs": 12, "batch_size": 8},
        "evaluation": {"folds": "group_kfold", "k": 2},
        "tracking": {"enabled": False},
        # one search at a time: each beside it costs two actors of Tune, which take seconds to start
        "cluster": {"in_flight": 2},
    }
    for name, value in changes.items():
        section = (
            sweep if name in {"mode", "scheduler", "rungs", "searcher", "trials", "space", "grace"} else tree
        )
        section[name] = (
            {**section.get(name, {}), **value} if isinstance(value, dict) and name != "space" else value
        )
    if sweep.get("mode") == "oracle":
        del sweep["inner_folds"]
    tree["sweep"] = {name: value for name, value in sweep.items() if value is not None}
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path
