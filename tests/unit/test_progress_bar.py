"""Long work shows how far it is, each step by a clock of its own."""

from rich.progress import Progress

from cubegate.progress_bar import shown_in


def test_each_step_has_a_clock_of_its_own():
    now = [100.0]
    with Progress(disable=True, get_time=lambda: now[0]) as bar:
        show = shown_in(bar)
        (task,) = bar.tasks
        for what, done, seconds in (("Reading", 5, 3), ("Reading", 10, 4), ("Reading [all]", 1, 2)):
            show(what, done, 10)
            now[0] += seconds
    assert (task.description, task.percentage, task.finished) == (r"Reading \[all]", 10, False)
    assert task.elapsed == 2
