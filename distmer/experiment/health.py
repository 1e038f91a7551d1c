"""`distmer doctor`: what a machine says about itself (`examine`), and what is wrong with it (`judge`)."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from distmer import __version__
from distmer.code import digests_of
from distmer.storage import delete, place, write
from distmer.types import BadInput, RunError

# bytes: Ray spills objects to the temporary folder, and refuses to when the disk is nearly full
FREE = 5 * 2**30
SKEW = 5.0  # s; a clock that is minutes off has its requests refused by an object store
_PROBE = b"distmer doctor"
# what a place that cannot be used raises, on a disk or on an object store
UNFIT = (OSError, BadInput, RunError)


@dataclass(frozen=True, slots=True)
class Check:
    """One line: what was looked at, where, whether it is in order, what was found, and what to mend."""

    where: str
    what: str
    ok: bool
    found: str
    remedy: str = ""

    @classmethod
    def of(cls, where: str, what: str, trouble: str, found: str, remedy: str) -> Check:
        """In order, with what was ``found``, unless there is ``trouble``."""
        return cls(where, what, False, trouble, remedy) if trouble else cls(where, what, True, found)

    @property
    def line(self) -> str:
        """For a terminal."""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{'ok  ' if self.ok else 'FAIL'}  {self.where}  {self.what}: {self.found}{remedy}"


@dataclass(frozen=True, slots=True)
class Probe:
    """What a node looks for: the store, the folder in it into which the driver has written, the data roots,
    the landmark model, and the code of the experiment (module → digest, see `distmer.code`)."""

    store: str
    key: str
    data: tuple[str, ...]
    landmarks: str | None
    code: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class NodeReport:
    """What a machine found. ``storage``, ``data``, ``landmarks`` and ``code``: the trouble, or ""."""

    versions: dict[str, str]
    gpus: int  # that torch sees
    storage: str
    data: str
    landmarks: str
    code: str
    free: int  # bytes
    clock: float  # s since the epoch, read last


@dataclass(frozen=True, slots=True)
class Answer:
    """A node's report, and what Ray says of the node; without a report, why there is none."""

    where: str
    gpus: float  # that Ray counts
    report: NodeReport | None
    skew: float = 0.0  # s, the node's clock less the driver's
    why: str = ""


def examine(probe: Probe, name: str) -> NodeReport:
    """Look at this machine. ``name`` tells it from the others that look at the same store."""
    import torch  # seconds; not needed by the driver, which judges

    packages = {package: importlib.metadata.version(package) for package in ("ray", "torch")}
    return NodeReport(
        versions={"distmer": __version__, **packages, "python": platform.python_version()},
        gpus=torch.cuda.device_count(),
        storage=_storage(probe, name),
        data="; ".join(filter(None, map(_lacking, probe.data))),
        landmarks=_landmarks(probe.landmarks),
        code=differences(probe.code),
        free=shutil.disk_usage(tempfile.gettempdir()).free,
        clock=time.time(),
    )


def place_probe(probe: Probe) -> str:
    """Write the file that every node must find. The answer is why it cannot be written, or ""."""
    try:
        write(place(probe.store) / probe.key / "driver", _PROBE)
    except UNFIT as error:
        return _told(error)
    return ""


def remove_probe(probe: Probe) -> None:
    """Remove what the driver and the nodes have written."""
    delete(place(probe.store) / probe.key)


def _storage(probe: Probe, name: str) -> str:
    try:
        store = place(probe.store)
        own = store / probe.key / name
        if not (store / probe.key / "driver").is_file():
            return f"what the driver wrote to {store} is not there"
        write(own, _PROBE)
        if own.read_bytes() != _PROBE:
            return f"{store} gives back other bytes than were written"
    except UNFIT as error:
        return _told(error)
    return ""


def _lacking(root: str) -> str:
    """Why no data set can be read in this place; "" if something is there."""
    try:
        folder = place(root, still=True)
        if not folder.is_dir():
            return f"{root} is not there"
        return "" if any(True for _ in folder.iterdir()) else f"{root} is empty"
    except UNFIT as error:
        return _told(error)


def _told(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")[:400]


def _landmarks(configured: str | None) -> str:
    # dlib and OpenCV are not needed by the driver, which judges
    from distmer.features.landmarks import load, model_path

    try:
        load(model_path(configured))
    except BadInput as error:
        return str(error)
    return ""


def differences(planned: Mapping[str, str]) -> str:
    """Which modules of the experiment cannot be imported here, or have another version."""
    found, troubles = {}, []
    for module in planned:
        try:
            found |= digests_of([module])
        except Exception as error:  # noqa: BLE001  # importing a user's module may raise anything
            troubles.append(f"{module} cannot be imported ({type(error).__name__}: {_told(error)})")
    troubles += [f"{module} is another version" for module in found if found[module] != planned[module]]
    return "; ".join(troubles[:3]) + (f" and {len(troubles) - 3} more" if len(troubles) > 3 else "")


def judge(driver: NodeReport, answer: Answer, *, shared: bool) -> Iterator[Check]:
    """The checks of a node. ``shared``: the nodes, too, must reach the store."""
    where, report = answer.where, answer.report
    if report is None:
        remedy = "look at the node's log in the dashboard, or take the node out"
        yield Check(where, "answer", False, answer.why, remedy)
        return
    yield from judge_machine(where, report, driver, shared=shared)
    seen = f"Ray counts {answer.gpus:g}, torch sees {report.gpus}"
    remedy = (
        "look at the GPU's driver: it is missing, or too old for this build of torch, or the container was"
        " not given it"
    )
    yield Check.of(where, "gpus", seen if report.gpus < answer.gpus else "", seen, remedy)
    late = f"{answer.skew:+.1f} s from the driver's"
    yield Check.of(where, "clock", late if abs(answer.skew) > SKEW else "", late, "keep the time by NTP")


def judge_machine(where: str, report: NodeReport, driver: NodeReport, *, shared: bool) -> Iterator[Check]:
    """The checks of any machine, also of the driver's, which is no node."""
    others = [
        name
        for name, version in report.versions.items()
        if _series(name, version) != _series(name, driver.versions[name])
    ]
    found = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    same = f"the driver has another {' and '.join(others)}: use one image on all nodes"
    stored, there = "written, read and deleted", report.storage if shared else ""
    if report.storage:
        stored = f"{report.storage}; nor need it be: the driver alone writes"
    reach = "mount it there, or name storage that all nodes reach; look at the permissions"
    mount = "mount the data sets at the same path on every node, or name an address"
    free = f"{report.free / 2**30:.1f} GB free for temporary files"
    checks = (  # what, trouble, found, remedy
        ("versions", found if others else "", found, same),
        ("storage", there, stored, reach),
        ("data", report.data, "there", mount),
        ("landmarks", report.landmarks, "loaded", "install the packages of requirements.lock"),
        ("code", report.code, "as on the driver", "install it there, or use one image on all nodes"),
        ("disk", free if report.free < FREE else "", free, f"free {FREE / 2**30:g} GB"),
    )
    yield from (Check.of(where, *check) for check in checks)


def _series(package: str, version: str) -> str:
    """What has to agree: of Python the minor version, of the others all but the build (2.13.0+cpu)."""
    return ".".join(version.split(".")[:2]) if package == "python" else version.split("+")[0]
