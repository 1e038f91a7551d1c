"""Which settings of a command line change none of the experiments that a configuration describes."""

# What YAML gives is untyped until pydantic has read it:
# pyright: strict, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from distmer.config import Config, Layer
from distmer.config_layers import merge_layers
from distmer.idle import CHANGES_NOTHING, IsNetwork, acting
from distmer.types import BadInput


def require_effect(
    layers: Sequence[Layer],
    own: str,
    experiments: Callable[[dict[str, Any]], Iterable[Config]],
    is_network: IsNetwork,
) -> None:
    """BadInput for a setting of the highest layer that would change the base of a configuration, and changes
    none of the ``experiments`` that its section ``own`` makes of it, because each has a value of its own."""

    def settings(tree: dict[str, Any]) -> list[dict[str, Any]] | None:
        try:
            return [acting(config.model_dump(mode="json"), is_network) for config in experiments(tree)]
        except BadInput:  # without the setting, that is: a row needs it
            return None

    *below, above = layers
    whole = merge_layers(layers)
    of_whole = settings(whole)
    for keys in leaves(above.tree):
        if keys[0] == "plugins" or ".".join(keys) in CHANGES_NOTHING:
            continue  # they are in no setting that acts
        less = merge_layers([*below, Layer(above.origin, _without(above.tree, keys))])
        changed = any(whole.get(key) != less.get(key) for key in {*whole, *less} - {own})
        if changed and settings(less) == of_whole:
            raise BadInput(
                f"{above.origin}: {'.'.join(keys)} has no effect, because every experiment of the section"
                f" {own} has a value of its own; change it there, or leave it out."
            )


def leaves(tree: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The keys of every single value of a tree."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, (*above, key))
        else:
            yield (*above, key)


def _without(tree: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    first, *rest = keys
    if not rest:
        return {key: value for key, value in tree.items() if key != first}
    return {**tree, first: _without(tree[first], tuple(rest))}
