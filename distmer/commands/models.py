"""`distmer models`: every model, what it is and what it costs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from distmer.config import ModelConfig
from distmer.models import ModelInfo, models, resolve
from distmer.types import BadInput


def list_models(
    size: int | None = None, only: str | None = None, *, timed: bool = False
) -> list[dict[str, Any]]:
    """Every variant of every model: what it is and what it costs.

    Parameters
    ----------
    size : px, the side of the maps; None is each model's native size
    only : the name of the one model to list, instead of all
    timed : also run each network, for its time and memory on this machine

    A model that cannot take the size has a row whose ``note`` says so.
    """
    known = models() if only is None else {only: resolve(ModelConfig(name=only)).info}
    infos = [info for _, info in sorted(known.items())]
    return [
        _model_row(info, name, size or info.native_size, timed) for info in infos for name in info.variants
    ]


def _model_row(info: ModelInfo, variant: str, size: int, timed: bool) -> dict[str, Any]:
    choice = {"variant": variant} if "variant" in info.options.model_fields else {}
    native = resolve(ModelConfig.model_validate({"name": info.name, **choice}))
    row: dict[str, Any] = {
        "name": info.name,
        "variant": variant,
        "title": info.title,
        "kind": info.kind,
        "citation": info.citation,
        "size": size,
        "min_size": info.min_size,
        "native_size": info.native_size,
        "parameters": None,
        "note": "",
        "inputs": list(native.inputs),
        "options": native.spec["options"],
        **dict.fromkeys(("cost", "measured", "printed")),
    }
    try:
        resolved = resolve(ModelConfig.model_validate({"name": info.name, "size": size, **choice}))
    except BadInput as error:
        return {**row, "note": f"not applicable: {error}"}
    if info.kind != "torch":
        return row
    from distmer.costs.counting import CONVENTION, count, measure  # torch is not needed by every command
    from distmer.costs.paper import TABLE_3

    cost = count(resolved)
    row |= {"parameters": cost.parameters, "cost": {**asdict(cost), "convention": CONVENTION}}
    if timed:
        row["measured"] = asdict(measure(resolved))
    printed = TABLE_3.get(info.name)
    if printed is not None and (printed.variant, printed.size) == (variant, size):
        row["printed"] = asdict(printed)
    return row
