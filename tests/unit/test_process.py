"""What a notebook may call leaves its process as it was; and who looks on can end no run."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import matplotlib
import optuna
import pytest
import torch

from distmer.experiment.events import Observers, RunEnded, Step
from distmer.process import environment, only_errors_of
from distmer.report import sweep as drawn
from distmer.training.runtime import repeatable
from harness import command, toy
from tests import factories

_NOTEBOOK = """
import logging, os, signal, sys
import cv2, matplotlib, optuna, torch
import distmer as dm
from distmer.commands.run import describe_plan, run_experiment
from distmer.commands.session import Given, Session
from distmer.commands.sweep import plan_of_sweep
from distmer.sweep.plan import Trial
from distmer.report.figures import drawings
from distmer.report import sweep as drawn
from pathlib import Path

home, maps, space = sys.argv[1:]

def state():
    names = ("", "optuna", "urllib3.connectionpool", "ray", "ray.data", "ray.tune")
    loggers = {name: logging.getLogger(name).level for name in names}
    handlers = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT)}
    numbers = torch.get_num_threads(), cv2.getNumThreads(), torch.are_deterministic_algorithms_enabled()
    numbers += (torch.initial_seed(),)
    others = ("TORCHINDUCTOR", "KMP_")  # of torch and scikit-learn
    own = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    return {"environment": own, "loggers": loggers, "handlers": handlers, "numbers": numbers,
            "backend": matplotlib.get_backend(),
            "style": {k: str(v) for k, v in matplotlib.rcParams.items() if k != "backend"},
            "random": torch.random.get_rng_state().tolist()}

torch.manual_seed(12)
torch.set_num_threads(2)
cv2.setNumThreads(2)
before = state()
settings = [f"data.root={maps}", "data.protocol=flowmaps", "inputs.normalise=minmax",
            "model.size=16", "model.hidden=16", "train.epochs=2", "train.batch_size=8",
            "evaluation.bootstrap=100"]
session = Session.open(Given(None, settings, home))
describe_plan(session)
result = run_experiment(session, local=True)
assert result.status == "complete" and result.mlflow_run_id, result.status
[draw() for draw in drawings(result).values()]
clips = dm.load("flowmaps", root=maps)
dm.features(clips, size=16, inputs={"normalise": "minmax"})
small = {"inputs": {"normalise": "minmax"}, "evaluation": {"bootstrap": 100}}
runs = [dm.loso(clips, model, tracking=True, **small) for model in ("linear", "svm")]
assert all(run.results.mlflow_run_id for run in runs)
dm.compare(runs, tracking=True)._repr_html_(), runs[0]._repr_html_()
plan_of_sweep(Given(Path(space), [], home), gpus=0, speedup=1.0, price=0.0)
study = optuna.create_study()
study.optimize(lambda trial: trial.suggest_float("x", 0, 1) + trial.suggest_float("y", 0, 1), n_trials=4)
plots = optuna.visualization.matplotlib
for plot in (plots.plot_parallel_coordinate, plots.plot_param_importances):
    drawn._drawn(plot, study)
after = state()
for part in before:
    then, now = before[part], after[part]
    if isinstance(then, dict):
        both = ((then, now), (now, then))
        then, now = (dict(set(some.items()) - set(other.items())) for some, other in both)
    assert then == now, (part, then, now)
"""

_SPACE = """
data: {{protocol: flowmaps, root: {root}}}
inputs: {{normalise: minmax}}
model: {{name: atscnn, size: 16, hidden: 16}}
train: {{epochs: 2, batch_size: 8}}
evaluation: {{folds: group_kfold, k: 2}}
sweep:
  trials: 2
  inner_folds: 2
  space: {{train.lr: {{loguniform: [1.0e-4, 1.0e-2]}}}}
"""


@pytest.mark.slow
def test_a_notebook_s_process_is_left_as_it_was(tmp_path: Path) -> None:
    maps = toy.write_flowmaps(tmp_path / "maps", subjects=4, each=3)
    space = tmp_path / "space.yaml"
    space.write_text(_SPACE.format(root=maps))
    arguments = [sys.executable, "-c", _NOTEBOOK, str(tmp_path / "home"), str(maps), str(space)]
    environ = {**command.environment(tmp_path / "home"), "PYTHONPATH": str(command.ROOT)}
    done = subprocess.run(arguments, env=environ, text=True, capture_output=True, timeout=command.PATIENCE)
    assert done.returncode == 0 and "cannot be reached" not in done.stderr, done.stderr


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "theirs")
    monkeypatch.delenv("NEW", raising=False)
    with environment({"OURS": "ours", "NEW": "new"}):
        assert (os.environ["OURS"], os.environ["NEW"]) == ("theirs", "new")
    assert os.environ["OURS"] == "theirs" and "NEW" not in os.environ


def test_a_figure_is_drawn_where_the_user_s_backend_is_not_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a command that a notebook or a remote shell starts: MPLBACKEND names what only they can load."""
    monkeypatch.setitem(matplotlib.rcParams, "backend", "module://nowhere")
    study = optuna.create_study()
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1) + trial.suggest_float("y", 0, 1), n_trials=3)
    assert drawn._drawn(optuna.visualization.matplotlib.plot_parallel_coordinate, study).axes
    assert matplotlib.get_backend() == "module://nowhere"


def test_a_fold_on_the_cpu_takes_nothing_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPU here is one that fails when it is used; a fold that was not promised it must not notice."""

    def used(*_: object) -> None:
        raise AssertionError("the GPU was used")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_rng_state", used)
    with repeatable(1):
        assert torch.get_num_threads() == 1


def test_blocks_of_several_threads_may_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEW", raising=False)
    level = logging.getLogger("some.library").level
    with ExitStack() as first, ExitStack() as second:
        for stack in (first, second):
            stack.enter_context(environment({"NEW": "new"}))
            stack.enter_context(only_errors_of("some.library"))
        first.close()
        assert os.environ["NEW"] == "new" and logging.getLogger("some.library").level == logging.ERROR
        second.close()
        assert "NEW" not in os.environ and logging.getLogger("some.library").level == level


def test_an_observer_that_raises_is_left_out_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[object] = []

    def display(event: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    tell = Observers([display, heard.append])
    events = [Step("extracting features", n, 3) for n in range(3)]
    for event in events:
        tell(event)
    assert heard == events
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith("display is left out from here on (BrokenPipeError:")


@pytest.mark.parametrize("fails", ["at an event", "when it is closed"])
def test_an_observer_is_closed_and_its_close_cannot_end_a_run(
    fails: str, caplog: pytest.LogCaptureFixture
) -> None:
    closed: list[str] = []

    class Display:
        def __call__(self, event: object) -> None:
            if fails == "at an event":
                raise OSError(5, "Input/output error")

        def close(self) -> None:
            closed.append(fails)
            raise OSError(5, "Input/output error")

    with Observers([Display()]) as tell:
        tell(Step("extracting features", 1, 3))
    assert closed
    assert [record.getMessage().split(" (")[0] for record in caplog.records] == [
        "Display is left out from here on"
    ]


def test_an_observer_cannot_stop_a_run_but_ctrl_c_can() -> None:
    def stop(event: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Observers([stop])(RunEnded(factories.result(factories.plan())))


@pytest.mark.slow
@pytest.mark.parametrize("where", ["pipe", "terminal", "full disk"])
def test_a_display_that_cannot_be_shown_is_no_end_of_a_run(where: str, tmp_path: Path) -> None:
    """`distmer run … 2>&1 | head -1`: the display's pipe is closed after its first line. A terminal that
    hangs up, a log on a full disk."""
    maps = toy.write_flowmaps(tmp_path / "maps", subjects=4, each=3)
    words = toy.settings(maps, "evaluation.bootstrap=100", "tracking.enabled=false")
    arguments = [sys.executable, "-m", "distmer.cli", "run", "--local", *words]
    terminal, screen = os.openpty()
    shown = {"pipe": subprocess.PIPE, "terminal": screen, "full disk": os.open("/dev/full", os.O_WRONLY)}[
        where
    ]
    environ = command.environment(tmp_path / "home", TERM="xterm")
    process = subprocess.Popen(
        arguments, cwd=command.ROOT, env=environ, stdout=shown, stderr=shown, start_new_session=True
    )
    os.close(screen)
    if process.stdout is not None:
        assert process.stdout.readline()
        process.stdout.close()
    assert where != "terminal" or os.read(terminal, 1)
    os.close(terminal)
    process.wait(command.PATIENCE)
    assert len(command.ledger(tmp_path / "home")) == 4
    assert list((tmp_path / "home" / "runs").glob("*/results.json"))
