"""distmer as a laboratory installs it: from the wheel, in an empty folder, without a checkout."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness import command, toy

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the built wheel is installed."""
    source, place = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in ("distmer", "configs"):
        shutil.copytree(command.ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(command.ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", source / "dist", source], check=True
    )
    wheel = next((source / "dist").glob("*.whl"))
    subprocess.run([*pip, "install", "--no-deps", "--target", place, wheel], check=True)
    return place


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """An empty folder with the example's files in it."""
    return Path(shutil.copytree(command.ROOT / "examples" / "own-model", tmp_path / "lab"))


# The commands of one test in one process, as in a notebook: each process of its own would load torch again.
COMMANDS = """
import contextlib, io, json, logging, sys
import distmer
from distmer.cli import main

ended = []
for words in json.loads(sys.argv[1]):
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(words)
        except SystemExit as end:
            code = int(str(end.code or 0))
    logging.getLogger().handlers.clear()
    ended.append((code, out.getvalue(), err.getvalue()))
print(json.dumps({"from": distmer.__file__, "ended": ended}))
"""


def distmer(installed: Path, lab: Path, *commands: Sequence[str]) -> list[command.Ended]:
    # The wheel's folder comes before the checkout that the tests' own environment points to.
    environ = command.environment(lab.parent / "home") | {"PYTHONPATH": str(installed)}
    words = [sys.executable, "-c", COMMANDS, json.dumps(commands)]
    done = subprocess.run(
        words, cwd=lab, env=environ, text=True, capture_output=True, timeout=command.PATIENCE
    )
    assert done.returncode == 0, done.stderr
    told = command.Ended(0, done.stdout, done.stderr).json
    assert told["from"].startswith(str(installed))
    return [command.Ended(*ended) for ended in told["ended"]]


def test_a_laboratory_runs_its_own_code_from_the_wheel(installed: Path, lab: Path) -> None:
    maps = toy.write_flowmaps(lab.parent / "maps", subjects=4)
    emotions = ("disgust", "happiness", "surprise")
    listed = [
        f"{image.relative_to(maps)},{image.parts[-4]},{emotions[int(image.parts[-2])]}"
        for image in sorted(maps.rglob("*.png"))
    ]
    (maps / "clips.csv").write_text("\n".join(["file,subject,emotion", *listed, "gone.png,s9,anger"]))
    chosen = [f"data.root={maps}", "data.protocol=lab_protocol.yaml", "inputs.normalise=minmax"]
    chosen += ["train.epochs=2", "tracking.enabled=false", "evaluation.bootstrap=100"]
    settings = ["own-model.yaml", *(part for one in chosen for part in ("--set", one)), "--local"]
    rows = ["--set", "compare.models=[linear]", "--set", "compare.rows.mine={}"]
    run, audit, compared = distmer(
        installed, lab, ["run", *settings], ["audit", *settings, "--folds=1"], ["compare", *settings, *rows]
    )
    assert run.code == 0, run.err
    assert "lab_nets:SmallNet on lab_protocol, 4 folds" in run.out
    assert "clips.csv row 26: there is no file gone.png" in run.out
    assert audit.code == 0, audit.err
    assert "passed 1 fold" in audit.out
    assert compared.code == 0, compared.err
    assert "mine" in compared.out and "linear" in compared.out


def test_the_configurations_and_the_data_tables_are_in_the_wheel(installed: Path, lab: Path) -> None:
    planned, unknown, checked = distmer(
        installed,
        lab,
        ["plan", "ablations", "--set", "data.synthetic.subjects=3"],
        ["plan", "demmo"],
        ["data", "check", "megc2019", "--set", f"data.root={lab}"],
    )
    assert planned.code == 0 and "ablations: 7 rows" in planned.out
    assert unknown.code == 2
    assert "or one that comes with distmer; did you mean 'demo'?" in unknown.err
    assert "no module" not in checked.err.lower() and str(lab) in checked.err
