"""Addresses that may hold a password: finding it, and writing the address or a text without it."""

from __future__ import annotations

import re
from urllib.parse import quote, quote_plus, unquote

# Names in a query (`?`), in parameters (`;`, also within an encoded `odbc_connect`), or in what follows a
# `#`.
_NAMED = (
    r"[^=&?;#\s]*(?:pass|pwd|secret|token|credential|signature|api_?key|access_?key)[^=&?;#\s]*|sig|auth|key"
)
_QUERY = re.compile(rf"(?i)([?&;#](?:{_NAMED})=)[^&]*")
_WORDS = re.compile(r"(?i)((?:passw\w*|pwd|secret\w*|\w*token|\w*key)=)[^&\s]+")
_USER = re.compile(r"://\S*@")


def holds_secret(address: str) -> bool:
    """Whether an address holds a password, or may: one that can be read in two ways counts as holding it."""
    if "://" not in address:
        return False
    from sqlalchemy.engine import make_url  # a tenth of a second; most settings have no address
    from sqlalchemy.exc import ArgumentError

    if _QUERY.search(address) or _QUERY.search(unquote(address)):
        return True
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        return "@" in address
    ambiguous = address.count("@") > 1 and not address.startswith("sqlite:///")  # there, all of it is a path
    return bool(url.password) or ambiguous


def masked(address: str) -> str:
    """An address without user and password, and without the secrets of its query. All up to the last @ goes,
    because a password may hold any sign."""
    scheme, separator, rest = address.partition("://")
    _, at, tail = rest.rpartition("@")
    shown = _QUERY.sub(r"\1***", f"{scheme}{separator}***@{tail}" if at else address)
    if not _QUERY.search(unquote(_QUERY.sub("", shown))):
        return shown
    place, _, _ = shown.partition("?")  # a secret whose name is encoded: nothing of the query is shown
    return f"{scheme}://***" if _QUERY.search(unquote(place)) else f"{place}?***"


def mask(text: str, address: str = "") -> str:
    """A text, such as an error's, without the secrets of ``address`` and of any other address in it."""
    if address:
        text = text.replace(address, masked(address))
    for secret in sorted(_secrets(address), key=len, reverse=True):
        text = text.replace(secret, "***")
    return _WORDS.sub(r"\1***", _QUERY.sub(r"\1***", _USER.sub("://***@", text)))


def _secrets(address: str) -> set[str]:
    """What is secret in an address, in every form that a library may write: as given, decoded, encoded."""
    _, _, rest = address.partition("://")
    _, _, password = rest.rpartition("@")[0].partition(":")
    found = [
        match.group(0).partition("=")[2]
        for text in (address, unquote(address))
        for match in _QUERY.finditer(text)
    ]
    values = {part for value in found for part in (value, value.partition(";")[0])}
    known = {form for value in {password, *values} for form in (value, unquote(value))}
    return {
        form
        for value in known
        if value
        for form in (value, quote(value), quote(value, safe=""), quote_plus(value))
    }
