"""The configurations that come with distmer: the folder ``configs`` of a checkout or of the package."""

from __future__ import annotations

from pathlib import Path

from distmer.storage import Place

_PACKAGE = Path(__file__).parent
FOLDER = next(folder for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if folder.is_dir())


def located(config: Place) -> Place:
    """The file of a configuration: itself if it is there, else the one of that name that comes with distmer
    (``demo`` or ``configs/demo.yaml``)."""
    if not isinstance(config, Path) or config.is_absolute() or config.exists():
        return config
    parts = config.parts[1:] if config.parts[0] == "configs" else config.parts
    own = FOLDER.joinpath(*parts)
    found = own if own.suffix == ".yaml" else own.with_name(f"{own.name}.yaml")
    return found if ".." not in parts and found.is_file() else config


def names() -> list[str]:
    """The names of the configurations that come with distmer."""
    return sorted(str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*.yaml"))
