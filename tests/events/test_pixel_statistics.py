"""Statistics of streams whose measures are known."""

import numpy as np
import pytest

from ssmbook.errors import InputError
from ssmbook.events import Events
from ssmbook.events.pixel_statistics import pixel_statistics


def events(rows):
    t, x, y, p = np.array(rows).T
    return Events(t, x.astype(np.uint16), y.astype(np.uint16), p.astype(np.uint8))


def test_two_windows_by_hand():
    # 10 px. First window: pixel 0 fires at 0, 1 and 3 ms, pixel 1 at 4 ms (near pixel 0's last). Second: one event.
    first = events([(0, 0, 0, 1), (1000, 0, 0, 1), (3000, 0, 0, 0), (4000, 1, 0, 0)])
    second = events([(20_000, 9, 0, 1)])
    found = pixel_statistics([first, second], 10, 1, 10_000)
    assert found.seconds == 0.02
    assert found.rate_hz == 5 / 0.02 / 10
    assert found.on_share == 3 / 5
    assert found.silent_share == pytest.approx((0.8 + 0.9) / 2)
    assert found.busiest_share == (3 + 1) / 5
    assert found.interval_ms == 1.5
    assert found.supported_share == 1 / 5
    assert found.lorenz[[0, 16, 18, 20]].tolist() == [0, 0, 1 / 5, 1]


def test_an_event_is_not_supported_by_its_own_pixel_or_by_an_old_one():
    rows = [(0, 3, 3, 1), (100, 3, 3, 1), (5101, 4, 4, 1), (10_101, 5, 5, 1)]
    assert pixel_statistics([events(rows)], 8, 8, 20_000).supported_share == 1 / 4


def test_nothing_to_measure():
    with pytest.raises(InputError, match="no window"):
        pixel_statistics([events([(0, 0, 0, 1)])[:0]], 4, 4, 1000)
    with pytest.raises(InputError, match="window_us = 0"):
        pixel_statistics([], 4, 4, 0)


def test_events_outside_the_sensor_are_refused():
    with pytest.raises(InputError, match="event 1 at x=3, y=4 lies outside the 4 × 4 frame"):
        pixel_statistics([events([(0, 0, 0, 1), (0, 3, 4, 1)])], 4, 4, 1000)
