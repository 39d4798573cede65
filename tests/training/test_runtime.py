"""What a training chooses for the machine it finds."""

import pytest

from cloud.training.runtime import precision


@pytest.mark.parametrize(
    ("capabilities", "chosen"),
    [
        ([], "float32"),
        ([(7, 5)], "mixed_float16"),
        ([(8, 0)], "mixed_bfloat16"),
        ([(9, 0), (9, 0)], "mixed_bfloat16"),
        ([(7, 0), (8, 6)], "mixed_bfloat16"),
    ],
)
def test_the_precision_follows_from_the_gpus(capabilities: list[tuple[int, int]], chosen: str) -> None:
    assert precision(capabilities) == chosen
