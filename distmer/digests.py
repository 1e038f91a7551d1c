"""The identity of folds, features and runs: SHA-256 of canonical JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from distmer.types import JsonValue


def canonical(value: JsonValue) -> str:
    """Sorted keys, no blanks, shortest float form; ValueError for what is no number."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def digest(value: JsonValue) -> str:
    """SHA-256 of a value's canonical JSON, 64 hexadecimal digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def digest_of_list(items: Iterable[str]) -> str:
    """`digest` of a list, from the canonical JSON of its items: a clip is written once, however many folds it
    is part of."""
    return hashlib.sha256(f"[{','.join(items)}]".encode()).hexdigest()
