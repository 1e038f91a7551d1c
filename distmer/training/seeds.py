"""Seeds that depend on what is trained, never on what was trained before it."""

from __future__ import annotations

import hashlib


def derive(*parts: int | str) -> int:
    """A 63-bit seed from a path of names and numbers, as ``derive(0, "order", 12)``: the first bits of its
    SHA-256.

    The same path gives the same seed on every machine, and any two paths give unrelated seeds.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
