"""A recipe for each network, by searches of equal budget: `python -m benchmarks.recipes --maps FOLDER`.

For each network, `configs/sweep-recipe.yaml` is run twice. The nested search gives the score of this way of
finding a recipe, on subjects that no choice has seen. The flat search gives the one recipe that is kept, as
``configs/tuned/<NAME>.yaml``, whose head names that score. Both share most of their trainings. Hours of CPU
for all networks; after a stop, the same command goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from benchmarks.common import ROOT, machine
from distmer.commands.session import Given
from distmer.commands.sweep import run_sweep
from distmer.models import model_info, models
from distmer.sweep.result import SweepResult
from distmer.types import BadInput

_SWEEP = ROOT / "configs" / "sweep-recipe.yaml"
_SIDE = 28  # px, of the published maps


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--maps", required=True, help="flow maps as STSTNet publishes them")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=value", help="another budget, say")
    parser.add_argument("names", nargs="*", help="networks; else all that read published maps")
    asked = parser.parse_args()
    machine()
    for name in asked.names or networks():
        try:
            written = tune(name, asked.maps, asked.set)
        except BadInput as error:
            print(f"{name}: {error}", flush=True)
        else:
            print(f"{name}: {written}", flush=True)


def networks() -> list[str]:
    """Those whose inputs published maps have: no grey images, and no sequence."""
    maps = {"u", "v", "strain"}
    infos = [info for info in models().values() if info.kind == "torch"]
    return sorted(info.name for info in infos if set(info.inputs(info.options.model_validate({}))) <= maps)


def tune(name: str, maps: str, more: list[str]) -> Path:
    """The recipe of a network as a configuration, written."""
    own = [f"data.root={Path(maps).resolve()}", f"model.name={name}"]
    info = model_info(name)
    own.append(f"model.size={max(_SIDE, info.min_size)}")
    if "variant" in info.options.model_fields:
        own.append("model.variant=reference")
    nested, flat = (
        run_sweep(Given(_SWEEP, [*own, *more, f"sweep.mode={mode}"])) for mode in ("nested", "flat")
    )
    (chosen,) = (outcome.chosen for outcome in flat.outcomes)
    if chosen is None or nested.summary is None or flat.summary is None:
        raise BadInput("no trial of the search has finished; see its folder for the reasons.")
    path = ROOT / "configs" / "tuned" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(_head(name, nested) + yaml.safe_dump(recipe(flat, chosen.setting), sort_keys=False))
    return path


def recipe(found: SweepResult, setting: Any) -> dict[str, Any]:
    """The configuration of a chosen setting, without anything that is a default or the data's."""
    config, model = found.plan.space.config(setting)
    train = config.train.model_dump(mode="json", exclude_defaults=True)
    return {
        "name": f"{model.info.name}, tuned",
        "data": {"protocol": "flowmaps"},
        "inputs": config.inputs.model_dump(mode="json", exclude_defaults=True),
        "model": config.model.model_dump(mode="json"),
        "train": {**train, "lr": float(f"{config.train.lr:.2e}")},
    }


def _head(name: str, nested: SweepResult) -> str:
    trials, folds = nested.plan.sweep.wanted, nested.plan.sweep.inner_folds
    of = nested.summary
    assert of is not None and of.interval is not None
    lines = [
        f"{name} with the recipe that a search found on CASME II's published flow maps",
        f"Command:   distmer run configs/tuned/{name}.yaml --set data.root=FOLDER",
        "Run time:  `distmer plan` estimates it",
        'Expected:  docs/results.md, row "tuned". All subjects had a say in this recipe, so that score is',
        "           optimistic. The honest score is the one of the nested search, whose recipes differ from",
        f"           group to group: UAR {of.uar:.3f} [{of.interval.uar.lo:.3f}, {of.interval.uar.hi:.3f}],"
        f" UF1 {of.uf1:.3f} ({trials} trials × {folds} inner folds).",
        "Made by:   python -m benchmarks.recipes (configs/sweep-recipe.yaml)",
    ]
    return "".join(f"# {line}\n" for line in lines)


if __name__ == "__main__":
    main()
