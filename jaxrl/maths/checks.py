"""What a function of arrays checks of its arguments before it computes: shapes and dtypes, never values.

    check_equal_shape(reward=reward, ended=ended)
    check_shape((), reward.shape, lambda_=lambda_)
    check_type(bool, ended=ended)

JAX broadcasts [N] against [N, 1] to [N, N] without a word, and an agent then learns from numbers that belong to nothing. Shapes
are known while a program is traced, so the checks are no part of the compiled program.
"""

from __future__ import annotations

from typing import Any

import chex
import numpy as np


def check_shape(*shapes: tuple[Any, ...], **arrays: Any) -> None:
    """Every argument has one of these shapes, of different ranks; `...` stands for any axes and None for any length.

    Raises:
      AssertionError: an argument has none; it tells the shapes of all and the one expected, that of its rank or the last.
    """
    found = {name: np.shape(array) for name, array in arrays.items()}
    expected = [next((shape for shape in shapes if len(shape) == len(own)), shapes[-1]) for own in found.values()]
    chex.assert_shape(list(arrays.values()), expected, custom_message="arguments: {}", custom_message_format_vars=(found,))


def check_equal_shape(**arrays: Any) -> None:
    """Every argument has the shape of the first.

    Raises:
      AssertionError: one has another; it tells the shapes of all.
    """
    check_shape(np.shape(next(iter(arrays.values()))), **arrays)


def check_type(kind: type, **arrays: Any) -> None:
    """Every argument is of this kind: bool, int (any integer), float (any floating-point number) or a type of NumPy's.

    Raises:
      AssertionError: names the first argument that is not, its dtype and the kind.
    """
    for name, array in arrays.items():
        chex.assert_type(array, kind, custom_message=f"argument: {name}")
