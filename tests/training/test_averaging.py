"""Averages of weights, and that looking at them changes nothing."""

import numpy as np
import pytest

pytestmark = pytest.mark.training


def test_averages_are_seen_while_reading_and_gone_afterwards() -> None:
    import keras

    from cloud.training.averaging import read_values, with_averages

    variable = keras.Variable(np.zeros(1, np.float32))
    optimizer = keras.optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5)
    optimizer.build([variable])
    for _ in range(3):  # 0 -> 1 -> 2 -> 3
        optimizer.apply([np.array([-1.0], np.float32)], [variable])
    (seen,) = with_averages(optimizer, [variable], lambda: read_values([variable]))
    # The average begins at the first step's 1: (1 + 2) / 2 = 1.5, (1.5 + 3) / 2 = 2.25.
    assert seen[0] == pytest.approx(2.25)
    assert read_values([variable])[0][0] == 3


def test_without_averages_the_weights_themselves_are_read() -> None:
    import keras

    from cloud.training.averaging import read_values, with_averages

    variable = keras.Variable(np.full(2, 7, np.float32))
    optimizer = keras.optimizers.SGD(1.0)
    optimizer.build([variable])
    (seen,) = with_averages(optimizer, [variable], lambda: read_values([variable]))
    np.testing.assert_array_equal(seen, [7, 7])


def test_an_error_while_reading_does_not_leave_the_averages_behind() -> None:
    import keras

    from cloud.training.averaging import read_values, with_averages

    variable = keras.Variable(np.zeros(1, np.float32))
    optimizer = keras.optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5)
    optimizer.build([variable])
    for _ in range(2):
        optimizer.apply([np.array([-1.0], np.float32)], [variable])

    def fail() -> None:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        with_averages(optimizer, [variable], fail)
    assert read_values([variable])[0][0] == 2


def test_half_way_is_the_mean() -> None:
    from cloud.training.averaging import interpolate

    (mixed,) = interpolate([np.zeros(3, np.float32)], [np.full(3, 4, np.float32)], 0.75)
    np.testing.assert_array_equal(mixed, np.ones(3, np.float32))
    assert mixed.dtype == np.float32
