"""The settings of a run by dotted name, and which of them are not the default."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from distmer.config import Config, ModelConfig
from distmer.models import models
from distmer.types import JsonValue


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting as text. ``default`` is None if it is not known, as for an option of a user's own model."""

    name: str
    value: str
    default: str | None

    @property
    def differs(self) -> bool:
        return self.value != self.default


def settings_of(tree: Mapping[str, JsonValue], options: Mapping[str, JsonValue] | None) -> list[Setting]:
    """Every setting of a kept configuration, without a sweep's section. ``options``: those of the model."""
    name = str((tree.get("model") or {}).get("name", ""))
    model = {"name": name, **(options if options is not None else tree.get("model") or {})}
    given = {key: value for key, value in tree.items() if key != "sweep"}
    values = flatten({**given, "model": model})
    info = models().get(name)
    defaults = flatten(Config().model_dump(mode="json"))
    defaults |= {"model.name": ModelConfig().name}
    defaults |= flatten(info.options.model_validate({}).model_dump(mode="json"), "model.") if info else {}
    return [Setting(key, value, defaults.get(key)) for key, value in values.items()]


def flatten(tree: Mapping[str, JsonValue], prefix: str = "") -> dict[str, str]:
    """A tree of settings as dotted names and words: ``train.lr`` → ``0.0001``."""
    flat: dict[str, str] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = setting_text(value)
    return flat


def setting_text(value: JsonValue) -> str:
    """A setting as text: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def short_value(value: JsonValue) -> str:
    """A value of a setting for a table. A number with a fraction has three digits."""
    return f"{value:.3g}" if isinstance(value, float) else setting_text(value)


def short_settings(settings: Mapping[str, JsonValue]) -> str:
    """Settings and their values in one line."""
    return ", ".join(f"{name} = {short_value(value)}" for name, value in settings.items())
