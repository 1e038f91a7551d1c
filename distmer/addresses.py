"""Addresses that may hold a password: finding it, and writing the address, or a text that speaks of it, without it."""

from __future__ import annotations

import re
from urllib.parse import quote, quote_plus, unquote

_NAMED = r"[^=&?\s]*(?:passw|pwd|secret|token|credential|signature|api_?key|access_?key)[^=&\s]*"  # in a query
_QUERY = re.compile(rf"(?i)([?&]{_NAMED}=)[^&]*")
_WORDS = re.compile(r"(?i)((?:passw\w*|pwd|secret\w*|\w*token|\w*key)=)[^&\s]+")
_USER = re.compile(r"://\S*@")


def holds_secret(address: str) -> bool:
    """Whether an address holds a password, or may: one that can be read in two ways counts as holding it."""
    if "://" not in address:
        return False
    from sqlalchemy.engine import make_url  # a tenth of a second; most settings have no address
    from sqlalchemy.exc import ArgumentError

    if _QUERY.search(address):
        return True
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        return "@" in address
    ambiguous = address.count("@") > 1 and not address.startswith("sqlite:///")  # there, all of it is a path
    return bool(url.password) or ambiguous


def masked(address: str) -> str:
    """An address without user and password, and without the secrets of its query. All up to the last @ goes: a password
    may hold any sign, and not everyone writes it as it ought to be written."""
    scheme, separator, rest = address.partition("://")
    _, at, tail = rest.rpartition("@")
    return _QUERY.sub(r"\1***", f"{scheme}{separator}***@{tail}" if at else address)


def mask(text: str, address: str = "") -> str:
    """A text, such as an error's, without the secrets of ``address`` and of any other address in it."""
    if address:
        text = text.replace(address, masked(address))
    for secret in sorted(_secrets(address), key=len, reverse=True):
        text = text.replace(secret, "***")
    return _WORDS.sub(r"\1***", _QUERY.sub(r"\1***", _USER.sub("://***@", text)))


def _secrets(address: str) -> set[str]:
    """What is secret in an address, in every form in which a library may write it: as given, decoded, encoded."""
    _, _, rest = address.partition("://")
    _, _, password = rest.rpartition("@")[0].partition(":")
    values = [match.group(0).partition("=")[2] for match in _QUERY.finditer(address)]
    known = {form for value in (password, *values) for form in (value, unquote(value))}
    return {form for value in known if value for form in (value, quote(value), quote(value, safe=""), quote_plus(value))}
