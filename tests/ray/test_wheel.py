"""distmer as a laboratory installs it: from the wheel, in an empty folder, without a checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
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


def distmer(installed: Path, lab: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # The wheel's folder comes before the checkout that the tests' own environment points to.
    environ = command.environment(lab.parent / "home") | {"PYTHONPATH": str(installed)}
    code = "import sys; from distmer.cli import main; main(sys.argv[1:])"
    words = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        words, cwd=lab, env=environ, text=True, capture_output=True, timeout=command.PATIENCE
    )


def test_a_laboratory_runs_its_own_code_from_the_wheel(installed: Path, lab: Path) -> None:
    maps = toy.write_flowmaps(lab.parent / "maps", subjects=4)
    emotions = ("disgust", "happiness", "surprise")
    rows = [
        f"{image.relative_to(maps)},{image.parts[-4]},{emotions[int(image.parts[-2])]}"
        for image in sorted(maps.rglob("*.png"))
    ]
    (maps / "clips.csv").write_text("\n".join(["file,subject,emotion", *rows, "gone.png,s9,anger"]))
    chosen = [f"data.root={maps}", "data.protocol=lab_protocol.yaml", "inputs.normalise=minmax"]
    chosen += ["train.epochs=2", "tracking.enabled=false", "evaluation.bootstrap=100"]
    settings = [part for one in chosen for part in ("--set", one)]
    run = distmer(installed, lab, "run", "own-model.yaml", *settings, "--local")
    assert run.returncode == 0, run.stderr
    assert "lab_nets:SmallNet on lab_protocol, 4 folds" in run.stdout
    assert "clips.csv row 26: there is no file gone.png" in run.stdout
    audit = distmer(installed, lab, "audit", "own-model.yaml", *settings, "--folds=1", "--local")
    assert audit.returncode == 0, audit.stderr
    assert "passed 1 fold" in audit.stdout
    rows = ["--set", "compare.models=[linear]", "--set", "compare.rows.mine={}"]
    compared = distmer(installed, lab, "compare", "own-model.yaml", *settings, *rows, "--local")
    assert compared.returncode == 0, compared.stderr
    assert "mine" in compared.stdout and "linear" in compared.stdout


def test_the_configurations_and_the_data_tables_are_in_the_wheel(installed: Path, lab: Path) -> None:
    planned = distmer(installed, lab, "plan", "ablations", "--set", "data.synthetic.subjects=3")
    assert "compare" in planned.stderr  # it was found, and is one for another command
    unknown = distmer(installed, lab, "plan", "demmo")
    assert unknown.returncode == 2
    assert "or one that comes with distmer; did you mean 'demo'?" in unknown.stderr
    checked = distmer(installed, lab, "data", "check", "megc2019", "--set", f"data.root={lab}")
    assert "no module" not in checked.stderr.lower() and str(lab) in checked.stderr
    where = subprocess.run(
        [sys.executable, "-c", "import distmer; print(distmer.__file__)"],
        env={**os.environ, "PYTHONPATH": str(installed)}, text=True, capture_output=True, cwd=lab,
    )  # fmt: skip
    assert where.stdout.startswith(str(installed))
