"""How names in sheets are read: without typing accidents, in natural order, and with the number of a
subject."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

# What an annotator types where a frame could not be told: a slash in CASME II, a backslash in CASME, nothing
# in SAMM.
MISSING = frozenset({"", "/", "\\", "-", "nan", "none", "n/a", "na"})

_PREFIX = r"(?:subject|sub|sp|s|p)?[ ._-]*(?:no)?[ ._-]*"
SUBJECT_FOLDER = rf"{_PREFIX}\d{{1,4}}"


def tidy(text: str) -> str:
    """A cell without the typing errors of the published sheets: blanks, full-width commas, digits and blanks
    of a Chinese keyboard (NFKC makes them plain), trailing dots and commas."""
    plain = unicodedata.normalize("NFKC", text).replace("\ufeff", "").replace("\u200b", "")
    return plain.strip().rstrip(" ,.;。")


def natural(text: str) -> list[str | int]:
    """A sort key by which "img2" comes before "img10"."""
    # Python refuses to read more than some thousand digits, which a damaged cell may hold.
    return [int(part[-999:]) if part.isdecimal() else part.lower() for part in re.split(r"(\d+)", text)]


def listing(names: Iterable[str], limit: int = 8) -> str:
    """Names for a message, cut after a few."""
    names = sorted(names, key=natural)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more if names else "nothing"


def subject_number(text: str) -> int | None:
    """The number of a subject: 1 of "1", "01", "1.0", "sub01", "s1" and "spNO.1"; None of other text."""
    found = re.fullmatch(rf"{_PREFIX}(\d{{1,9}})(?:\.0+)?", tidy(text).lower())
    return int(found[1]) if found else None


def spelling(text: str) -> str:
    """What several spellings of one name have in common: "1" and "01" are one, and so are "s2" and "S02", or
    "s1_ne_01" and "S01-ne-1". A separator between two numbers counts: "EP1_11" is not "EP11_1"."""
    plain = re.sub(r"(?<=\d)[\s._-]+(?=\d)", "/", plain_number(text).casefold())
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"[\s._-]+", "", plain))


def clip_spelling(subject: str, clip: str) -> tuple[int | str, str]:
    """What all spellings of a clip's two names have in common: the number of the subject, and `spelling`."""
    number = subject_number(subject)
    return spelling(subject) if number is None else number, spelling(clip)


def plain_number(text: str) -> str:
    """A number as a sheet may hold it, "46 " or "46.0", as plain text: "46". Other text is in lower case."""
    return re.sub(r"\.0+$", "", tidy(text)).lower()
