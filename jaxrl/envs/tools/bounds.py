"""Actions in [-1, 1] between the true bounds of an environment: one map for all adapters, on NumPy and JAX arrays."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np


def rescale(action: Any, low: Any, high: Any, xp: ModuleType = jnp) -> Any:
    """Actions [...] from [-1, 1], to which they are clipped, to [low, high]; -1 becomes `low` and 1 `high`, both exactly.

    Args:
      low, high: finite, `is_bounded`, of a shape that fits.
      xp: the module to compute in, `numpy` or `jax.numpy`.
    """
    share = (xp.clip(action, -1.0, 1.0) + 1.0) / 2.0
    # Rounding may carry low + (high - low) past high, or leave it short.
    return xp.where(share >= 1.0, high, xp.clip(low + share * (high - low), low, high))


def is_bounded(low: Any, high: Any) -> bool:
    """True of bounds whose width their type can hold; +-3.4e38 in float32 are as good as none."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.asarray(high) - np.asarray(low)).all())
