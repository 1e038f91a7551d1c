"""`distmer models`: every model, what it is and what it costs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from distmer.config import ModelConfig
from distmer.models import ModelInfo, models, resolve
from distmer.types import BadInput


def list_models(size: int | None = None, only: str | None = None, *, timed: bool = False) -> list[dict[str, Any]]:
    """Every variant of every model (or of ``only`` one) at ``size`` px, else at its native size: what it is and what it costs.

    ``timed`` also runs each once and again. A model that cannot take the size has a row whose ``note`` says so.
    """
    known = models()
    if only is not None:
        known = {only: resolve(ModelConfig(name=only)).info}
    return [_model_row(info, variant, size or info.native_size, timed) for _, info in sorted(known.items()) for variant in info.variants]


def _model_row(info: ModelInfo, variant: str, size: int, timed: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"name": info.name, "variant": variant, "title": info.title, "kind": info.kind, "citation": info.citation}
    row |= {"size": size, "min_size": info.min_size, "native_size": info.native_size, "parameters": None, "note": ""}
    choice = {"variant": variant} if "variant" in info.options.model_fields else {}
    native = resolve(ModelConfig.model_validate({"name": info.name, **choice}))
    row |= {"inputs": list(native.inputs), "options": native.spec["options"], "cost": None, "measured": None, "printed": None}
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
