import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from detection.cli.terminal import TerminalWatcher
from detection.cli.training_view import TrainingView, duration, in_words
from detection.training.throughput import Throughput
from detection.training.watcher import Step

LOSSES = {"classification": 0.5, "bbox_regression": 0.25}
METRICS = {"AP": 0.312, "AP50": 0.604}
PER_CLASS = {"beet": 0.5, "fat [hen]": 0.124, "absent": -1.0}


def step(number: int, *, steps: int = 100, losses=LOSSES) -> Step:
    throughput = Throughput(images_per_s=24.06, waiting=0.125, memory_bytes=3 * 2**29)
    progress = number / steps
    return Step(
        number, steps, progress, losses, learning_rate=8.1e-4, epoch=progress * 8, epochs=8, throughput=throughput
    )


def shown(view: TrainingView, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(view.table())
    return console.file.getvalue()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_table_says_all_there_is() -> None:
    clock = Clock()
    view = TrainingView(clock)
    for number in (1, 2, 3, 4, 5):
        view.step(step(number))
        clock.now += 10
    clock.now = 40
    view.validated(epoch=0.4, metrics=METRICS, best=True, per_class=PER_CLASS)
    view.validated(epoch=0.5, metrics={"AP": 0.2, "AP50": 0.3}, best=False, per_class=PER_CLASS)
    said = shown(view, 100)
    for words in (
        "step     5 of 100, epoch 0.4 of 8",
        "0:40 elapsed, 15:50 left",  # 4 steps in 40 s, 95 are left
        "loss     0.750  classification 0.500  box regression 0.250",
        "LR       8.1e-04",
        "speed    24.1 images/s, 12% of the time waiting for data",
        "memory   1.5 GiB",
        "last     epoch 0.5: AP 0.200, AP50 0.300, worst fat [hen] 0.124",
        "best     AP 0.312 at epoch 0.4",
    ):
        assert words in said
    assert view.summary() == "5 steps, 0.4 epochs in 0:40; best AP 0.312 at epoch 0.4"


def test_a_narrow_terminal_gets_it_all_too() -> None:
    view = TrainingView()
    view.step(step(1))
    said = shown(view, 30)
    assert max(map(len, said.splitlines())) <= 30
    assert "waiting" in said and "0.250" in said


def test_losses_are_smoothed_from_the_first_one_on() -> None:
    view = TrainingView()
    view.step(step(1, losses={"a": 4.0}))
    assert view.losses == {"a": pytest.approx(4.0)}
    view.step(step(2, losses={"a": 0.0}))
    assert view.losses == {"a": pytest.approx(4.0 * 0.09 / 0.19)}


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 500), st.integers(0, 400), st.floats(0.01, 100))
def test_at_an_even_speed_the_time_left_is_exact(done: int, resumed_at: int, seconds_a_step: float) -> None:
    clock, steps = Clock(), 1000
    view = TrainingView(clock)
    for number in range(resumed_at + 1, resumed_at + done + 1):
        clock.now += seconds_a_step
        view.step(step(number, steps=steps))
    assert view.left_s == pytest.approx((steps - resumed_at - done) * seconds_a_step)


def test_before_a_second_step_no_time_is_told() -> None:
    view = TrainingView()
    view.step(step(1))
    assert view.left_s is None
    assert " left" not in shown(view, 100)


@pytest.mark.parametrize(("seconds", "said"), [(0, "0:00"), (0.2, "0:01"), (59.5, "1:00"), (3723, "1:02:03")])
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_the_worst_class_is_one_that_is_there() -> None:
    assert in_words(METRICS, PER_CLASS) == "AP 0.312, AP50 0.604, worst fat [hen] 0.124"
    assert in_words(METRICS, {"beet": 0.3, "absent": -1.0}) == "AP 0.312, AP50 0.604"


def test_in_a_pipe_there_is_a_plain_line_from_time_to_time() -> None:
    file = io.StringIO()
    with TerminalWatcher(Console(file=file, width=60), line_every_s=1000) as watcher:
        watcher.progress("checking images", 1, 2)
        for number in (1, 2, 3):
            watcher.step(step(number))
        watcher.validated(epoch=0.2, metrics=METRICS, best=True, per_class=PER_CLASS)
    lines = file.getvalue().splitlines()
    assert len(lines) == 3, lines
    assert lines[0].startswith("step 1 of 100 (1%): loss 0.750, LR 8.1e-04, 24.1 images/s, 12% of the time waiting")
    assert lines[1] == "epoch 0.2: AP 0.312, AP50 0.604, worst fat [hen] 0.124  best so far"
    assert lines[2].startswith("3 steps, 0.2 epochs in ")
    assert "\x1b" not in file.getvalue()


def test_in_a_pipe_the_lines_come_when_their_time_has_come() -> None:
    file = io.StringIO()
    with TerminalWatcher(Console(file=file, width=60), line_every_s=0) as watcher:
        watcher.progress("validating", 3, 7)
        for number in (1, 2, 3):
            watcher.step(step(number))
    lines = file.getvalue().splitlines()
    assert lines[0] == "validating: 3 of 7"
    assert [line.split(" (")[0] for line in lines[1:4]] == [f"step {n} of 100" for n in (1, 2, 3)]


def test_in_a_terminal_the_table_moves_and_a_line_is_left() -> None:
    file = io.StringIO()
    console = Console(file=file, width=100, force_terminal=True, color_system=None)
    with TerminalWatcher(console) as watcher:
        watcher.note("a note")
        watcher.step(step(1))
        watcher.progress("validating", 1, 3)
        watcher._live.refresh()
        watcher.progress("validating", 3, 3)
    said = file.getvalue()
    assert "step     1 of 100" in said and "validating" in said and "1/3" in said
    assert "a note" in said
    assert "1 steps, 0.1 epochs in" in said[said.rindex("memory") :]


def test_a_second_training_has_a_view_of_its_own() -> None:
    console = Console(file=io.StringIO(), width=120)
    with TerminalWatcher(console, line_every_s=0) as watcher:
        for number in (1, 2, 3):  # synthetic pre-training
            watcher.step(step(number, steps=3, losses={"classification": 9.0}))
        watcher.step(step(1))
    said = console.file.getvalue()
    assert "3 steps, 8.0 epochs in 0:" in said
    assert "step 1 of 100 (1%): loss 0.750" in said  # nothing of the losses before
    assert "1 steps, 0.1 epochs in 0:" in said.splitlines()[-1]
