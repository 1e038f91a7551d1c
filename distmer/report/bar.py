"""One progress bar on stderr, because stdout is for the result: live on a terminal, plain lines in a log, and
in the output of the cell in a notebook."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from distmer.report.tables import clock

_AGAIN = 0.2  # s between two states of the bar in a notebook


class Stderr(Console):
    """The console that shows progress. When nothing reads stderr any more, it becomes silent. Rich by itself
    would end the process."""

    def __init__(self) -> None:
        super().__init__(stderr=True)

    def on_broken_pipe(self) -> None:
        self.quiet = True


class Bar:
    """How much of one thing is done, with notes beside the bar and sentences above it."""

    def __init__(self, console: Console | None, every: float, now: Callable[[], float]) -> None:
        """``console`` must not write to stdout; ``every``: seconds between plain lines; ``now``: a clock."""
        self.now = now
        self.started = 0.0  # when the present thing began
        self._console = console or Stderr()
        self._every = every
        self.what, self.total = "", 0
        self._shown_at = float("-inf")
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    @property
    def is_live(self) -> bool:
        return self._progress is not None

    def begin(self, what: str, total: int) -> None:
        """Show another thing from here on. ``total``: how much of it there is; it may be corrected later."""
        self.close()
        self.started = self.now()
        self.what, self.total, self._shown_at = what, total, float("-inf")
        if self._console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total}"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[note]}"),
                console=self._console,
            )
            self._task = self._progress.add_task(what, total=total, note="")
            self._progress.start()

    def show(self, now: float, done: int, notes: Sequence[str], *, at_once: bool = False) -> None:
        """Bring the bar up to date. In a log: a line, if the last one is old enough, or ``at_once``."""
        shown = [note for note in notes if note]
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, total=self.total, completed=done, note=" · ".join(shown))
        elif at_once or now - self._shown_at >= self._every:
            self._shown_at = now
            elapsed = f"{clock(now - self.started)} elapsed"
            self.print(" · ".join([f"{self.what} {done}/{self.total}", elapsed, *shown]))

    def print(self, line: str) -> None:
        """A line above the bar that stays."""
        self._console.print(Text(line), soft_wrap=True, highlight=False)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._progress is not None:
            self._progress.stop()
        self._progress = self._task = None


class NotebookBar(Bar):
    """The bar as HTML in the output of a cell. It needs IPython alone, and the saved notebook shows it too; a
    widget would need a package and a running kernel."""

    def __init__(self, console: Console, now: Callable[[], float]) -> None:
        super().__init__(console, _AGAIN, now)
        self._cell: Any = None  # IPython's handle of what is displayed
        self._latest = ""

    @property
    def is_live(self) -> bool:
        return self._cell is not None

    def begin(self, what: str, total: int) -> None:
        from IPython.display import HTML, display  # a notebook has it

        self.close()
        self.started = self._shown_at = self.now()
        self.what, self.total = what, total
        self._cell = display(HTML(self._html(0, [])), display_id=True)

    def show(self, now: float, done: int, notes: Sequence[str], *, at_once: bool = False) -> None:
        self._latest = self._html(done, [f"{clock(now - self.started)} elapsed", *notes])
        if now - self._shown_at >= self._every or done >= self.total:
            self._update(now)

    def print(self, line: str) -> None:
        print(line)  # the console would make a red box of stderr

    def close(self) -> None:
        self._update(self.now())
        self._cell = None

    def _update(self, now: float) -> None:
        if self._cell is not None and self._latest:
            from IPython.display import HTML

            self._cell.update(HTML(self._latest))
            self._latest, self._shown_at = "", now

    def _html(self, done: int, notes: Sequence[str]) -> str:
        said = " · ".join([f"{done}/{self.total}", *(note for note in notes if note)])
        return f'{escape(self.what)} <progress value="{done}" max="{self.total}"></progress> {escape(said)}'


def bar_for(console: Console | None, every: float, now: Callable[[], float]) -> Bar:
    """The bar of this process, which may be the kernel of a notebook. See `Bar`."""
    if console is None and (own := Stderr()).is_jupyter:
        return NotebookBar(own, now)
    return Bar(console, every, now)


def time_left(spent: float, done: int, left: int) -> str:
    """How long the rest takes, in words, if ``done`` took ``spent`` seconds; "" before anything is done. Do
    not count what was in the ledger: it took no time."""
    return f"about {clock(spent / done * left)} left" if done and left else ""
