"""Shows how far long work is, on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from cubegate.index.progress import Progress as ShowProgress


def progress_bar(console: Console) -> Progress:
    """Return a bar that is gone when it is done, and that is not there where no terminal is."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def shown_in(bar: Progress) -> ShowProgress:
    """Return what shows in `bar` how far long work is."""
    task = bar.add_task("Beginning", total=None)
    shown = ""

    def show(what: str, done: int, total: int) -> None:
        nonlocal shown
        if what != shown:
            # each step has a clock of its own
            bar.reset(task, description=escape(what), total=total)
            shown = what
        bar.update(task, completed=done, total=total)

    return show
