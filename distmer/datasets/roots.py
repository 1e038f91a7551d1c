"""Where a data set lies: its own setting, its folder under the common root, or the root itself."""

from __future__ import annotations

from collections.abc import Callable

from distmer.config import DataConfig
from distmer.datasets.base import DatasetInfo, by_number
from distmer.datasets.text import listing
from distmer.storage import Place, place
from distmer.types import BadInput


def find_root(
    info: DatasetInfo, data: DataConfig, alone: bool, rule: Callable[[str], str] = lambda setting: ""
) -> Place:
    """The folder of a data set: ``data.roots.<set>``, else the folder below ``data.root`` that has one of the
    set's names and holds the set, else ``data.root`` itself if it is the set's folder.

    ``alone``: the protocol has no other set, so a root without a known sub-folder must be the set's own.
    ``rule``: setting → how its relative path was made absolute, as a sentence; "" where it was not relative.
    BadInput names the option, and what was looked for.
    """
    if info.name in data.roots:
        return _folder(data.roots[info.name], f"data.roots.{info.name}", info, rule)
    if data.root is None:
        raise BadInput(
            f"no folder is given for {info.title}: name the data in data.root (in the file, or --set"
            " data.root=…), "
            f"in the environment variable DISTMER_DATA, or in data.roots.{info.name}."
        )
    root = _folder(data.root, "data.root", info, rule)
    wanted = [name.lower() for name in info.folders]
    below = sorted(
        (p for p in by_number(root) if p.name.lower() in wanted), key=lambda p: wanted.index(p.name.lower())
    )
    # A sheet in the common root must not hide the set's folder, nor a folder of frames the set around it.
    if info.recognises(root):
        return next((folder for folder in below if info.recognises(folder)), root)
    if below:
        return below[0]
    if alone:
        return root
    there = listing(p.name for p in root.iterdir())
    raise BadInput(
        f"{root}: it holds no folder of {info.title}; looked for {', '.join(info.folders)}, found {there}. "
        f"Correct data.root (or DISTMER_DATA), or name the folder in data.roots.{info.name}."
    )


def _folder(text: str, option: str, info: DatasetInfo, rule: Callable[[str], str]) -> Place:
    path = place(text, still=True)
    if path.is_dir():
        return path.absolute()
    environment = ", or by the environment variable DISTMER_DATA" if option == "data.root" else ""
    source = f"{option} (in the file, by --set {option}=…{environment})"
    if path.is_file():
        raise BadInput(f"{path} is a file; name the folder that holds it. Correct {source}.")
    raise BadInput(f"{path}: the folder for {info.title} is not there; correct {source}.{rule(option)}")
