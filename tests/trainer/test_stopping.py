"""Signals during training."""

import signal

import pytest
from dpr_lance.trainer.stopping import Stopping


def test_a_second_signal_is_not_held_back():
    asked = []

    def stubborn():
        with Stopping() as stopping:
            signal.raise_signal(signal.SIGINT)
            asked.append(stopping.asked)
            signal.raise_signal(signal.SIGINT)
            asked.append("went on")

    with pytest.raises(KeyboardInterrupt):
        stubborn()
    assert asked == [signal.SIGINT]


def test_a_signal_that_comes_too_late_is_not_lost():
    def leave():
        with Stopping():
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        leave()
