"""A leak is told from noise, from faults, and from what grows by design."""

from __future__ import annotations

import random

import pytest

from lab.soak.flatness import Flatness, judge_series, slope

HOUR = 3600.0


def judged(series: str, values: list[float], *, messages: float = 1.0) -> Flatness:
    """One hour's values, of which all are judged."""
    step = HOUR / len(values)
    points = [(n * step, value) for n, value in enumerate(values)]
    (found,) = judge_series({series: points}, warm_up=0.0, messages=messages)
    return found


def test_a_slope_is_seen_through_noise() -> None:
    dice = random.Random(1)
    points = [(float(n), 90 + n / 100 + dice.uniform(-5, 5)) for n in range(2_000)]
    assert slope(points) == pytest.approx(0.01, rel=0.1)


def test_a_third_of_the_points_may_lie_anywhere() -> None:
    points = [(float(n), 5_000.0 if n % 3 == 0 else 90.0) for n in range(100)]
    assert slope(points) == 0


def test_a_leak_grows_and_noise_does_not() -> None:
    dice = random.Random(2)
    noise = [dice.uniform(-3, 3) for _ in range(360)]
    leak = judged("memory/worker-1", [90 + n * 20 / 360 + noise[n] for n in range(360)])
    steady = judged("memory/worker-1", [90 + noise[n] for n in range(360)])
    assert not leak.flat
    assert leak.growth == pytest.approx(19, abs=2)
    assert leak.an_hour == pytest.approx(20, abs=2)
    assert steady.flat


def test_a_sawtooth_is_flat_and_a_step_that_stays_is_not() -> None:
    sawtooth = [10.0 + 30 * (n % 20) / 20 for n in range(360)]
    assert judged("table/messages", sawtooth).flat
    steps = [30.0 + 40 * (n // 60) for n in range(360)]
    assert not judged("descriptors/ingress-1", steps).flat


def test_what_swings_widely_has_to_grow_by_more() -> None:
    dice = random.Random(3)
    swings = [dice.uniform(120, 260) for _ in range(360)]
    grown = [swings[n] + 60 * n / 360 for n in range(360)]
    assert judged("memory/postgres", grown).flat
    assert not judged("memory/postgres", [value + n for n, value in enumerate(swings)]).flat


def test_what_goes_up_and_comes_down_again_is_flat() -> None:
    dip = [14.0] * 40 + [4.0 + 10 * min(1.0, n / 200) for n in range(320)]
    assert slope([(float(n), value) for n, value in enumerate(dip)]) > 0
    assert judged("table/messages", dip).flat


@pytest.mark.parametrize("begins", [0.3, 0.5, 0.72, 0.85])
def test_a_leak_and_a_step_are_seen_whenever_they_begin(begins: float) -> None:
    dice = random.Random(4)
    late = [max(0.0, n / 360 - begins) / (1 - begins) for n in range(360)]
    noise = [dice.uniform(-3, 3) for _ in range(360)]
    assert not judged("memory/worker-1", [100 + 100 * share for share in late]).flat
    leak = [100 + 100 * share + noise[n] for n, share in enumerate(late)]
    assert not judged("memory/worker-1", leak).flat
    assert not judged("descriptors/worker-1", [30.0 + int(40 * share) for share in late]).flat
    step = [100.0 + 500 * (share > 0) + noise[n] for n, share in enumerate(late)]
    assert not judged("memory/worker-1", step).flat


def test_a_fault_at_the_end_is_no_growth() -> None:
    assert judged("lag/redis", [float(n % 9 + 5_000 * (n > 345)) for n in range(360)]).flat


def test_what_shrinks_is_flat() -> None:
    assert judged("memory/worker-1", [200.0 - n / 4 for n in range(360)]).flat


def test_what_grows_by_design_is_judged_by_the_message() -> None:
    values = [n * 0.17 for n in range(360)]  # 61 MB in an hour
    assert judged("kept/tombstones", values, messages=360_000).flat
    dear = judged("kept/tombstones", values, messages=36_000)
    assert not dear.flat
    assert dear.growth == pytest.approx(1_700, rel=0.15)


def test_a_longer_soak_holds_each_hour_to_less() -> None:
    points = [(n * 60.0, 90 + n / 60) for n in range(48 * 60)]  # 1 MB an hour
    (short,) = judge_series({"memory/worker-1": points[:120]}, warm_up=0.0, messages=1)
    (long,) = judge_series({"memory/worker-1": points}, warm_up=0.0, messages=1)
    assert short.flat
    assert not long.flat


def test_the_warm_up_is_left_out_and_a_few_points_tell_nothing() -> None:
    points = [(float(n), min(90.0, 10.0 + n)) for n in range(1_000)]
    (found,) = judge_series({"memory/worker-1": points}, warm_up=100.0, messages=1)
    assert (found.first, found.growth) == (90.0, 0.0)
    assert not judge_series({"memory/worker-1": points[:5]}, warm_up=0.0, messages=1)
