"""Names as MLflow takes them: of metrics, parameters, tags and files.

MLflow takes letters, digits and ``_ - . / `` and blanks, as long as the name, read as a path, is in its
plainest form. Every other sign is written as ``_x…_`` with its number in Unicode, in hexadecimal, as Excel's
files do: the class ``joy+`` becomes ``joy_x2B_``. Plain names stay as they are, no two names become one, and
`original` reads them back.
"""

from __future__ import annotations

import hashlib
import posixpath
import re

# Also what would read as an escaped sign, now or once the sign after it is escaped.
_ILLEGAL = re.compile(r"[^/\w\-. ]|_(?=x[0-9A-F]*(?:_|[^\w\-. ]))")
_ESCAPED = re.compile(r"_x([0-9A-F]*)_")
_LONGEST = 250  # characters that MLflow takes


def legal(name: str) -> str:
    """The name as MLflow takes it. One that is too long even then is cut, and ends in a digest of the
    whole."""
    text = _ILLEGAL.sub(_escape, name)
    if not text:
        return "_x_"
    if posixpath.normpath(text) != text or text.startswith((".", "/")):  # a//b, a/, ./a, ../a
        text = re.sub(r"/|^\.|(?<=/)\.", _escape, text)
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST - 13]}_{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return text


def original(text: str) -> str:
    """The name behind a legal one that was not cut."""
    return _ESCAPED.sub(lambda sign: chr(int(sign[1], 16)) if sign[1] else "", text)


def _escape(sign: re.Match[str]) -> str:
    return f"_x{ord(sign[0]):X}_"
