import pytest
import torch

from detection.training.throughput import Throughput, ThroughputMeter, memory_bytes

CPU = torch.device("cpu")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def loop(
    meter: ThroughputMeter, clock: Clock, *, steps: int, load_s: float, work_s: float, images: int = 4
) -> Throughput:
    def batches():
        for number in range(steps):
            clock.now += 60.0 if number == 0 else load_s  # the first waits for the workers
            yield number

    throughput = Throughput()
    for _ in meter.batches(batches()):
        clock.now += work_s
        throughput = meter.stepped(images)
    return throughput


def test_images_a_second_and_the_share_of_waiting() -> None:
    clock = Clock()
    throughput = loop(ThroughputMeter(CPU, clock), clock, steps=300, load_s=0.1, work_s=0.3)
    assert throughput.images_per_s == pytest.approx(10.0)
    assert throughput.waiting == pytest.approx(0.25)


def test_the_first_batch_is_no_waiting() -> None:
    clock = Clock()
    throughput = loop(ThroughputMeter(CPU, clock), clock, steps=1, load_s=0.0, work_s=0.5)
    assert (throughput.images_per_s, throughput.waiting) == (pytest.approx(8.0), 0.0)


def test_what_lies_between_steps_does_not_count() -> None:
    clock = Clock()
    meter = ThroughputMeter(CPU, clock)
    for _ in meter.batches(range(50)):
        clock.now += 0.5
        throughput = meter.stepped(4)
        clock.now += 100  # a validation
    assert (throughput.images_per_s, throughput.waiting) == (pytest.approx(8.0), 0.0)


def test_leaving_the_loop_ends_the_source() -> None:
    ended = []

    def source():
        try:
            yield from range(10)
        finally:
            ended.append(True)

    batches = ThroughputMeter(CPU).batches(source())
    assert next(batches) == 0
    batches.close()
    assert ended == [True]


def test_memory_in_words() -> None:
    assert Throughput(memory_bytes=3 * 2**29).memory() == "1.5 GiB"
    assert Throughput(memory_bytes=2**31, memory_total_bytes=2**34).memory() == "2.0 of 16.0 GiB on the GPU"
    assert Throughput().memory() == ""
    taken, whole = memory_bytes(CPU)
    assert whole is None
    assert taken is None or 2**24 < taken < 2**40  # torch alone takes more than 16 MiB
