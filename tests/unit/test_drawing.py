"""Figures while another thread loads what matplotlib looks at."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness import command

DRAWS = {
    "png": "from distmer.report.run_folder import write_figures\n"
    "from matplotlib.figure import Figure\n"
    "def draw(): write_figures(Path('.'), {'one': Figure})\n",
    "svg": "from distmer.report.svg import svg\ndef draw(): svg(lambda figure: None, 2, 2, 'one')\n",
}


@pytest.mark.parametrize("form", DRAWS)
def test_a_figure_waits_for_ipython_that_another_thread_is_loading(form: str, tmp_path: Path) -> None:
    """MLflow loads IPython in the tracker's thread. A package of its name stands in, which takes its time."""
    (tmp_path / "IPython").mkdir()
    (tmp_path / "IPython" / "__init__.py").write_text("import time\ntime.sleep(2)\nversion_info = (9, 0)\n")
    program = f"""
import sys, threading, time
from pathlib import Path
{DRAWS[form]}
import matplotlib.figure
assert "IPython" not in sys.modules
loading = threading.Thread(target=__import__, args=("IPython",))
loading.start()
while "IPython" not in sys.modules:
    time.sleep(0.001)
draw()
loading.join()
"""
    path = f"{tmp_path}:{command.ROOT}"
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**command.environment(tmp_path), "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
