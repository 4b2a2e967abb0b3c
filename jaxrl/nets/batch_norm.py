"""Batch normalisation whose output in training is near that of its running statistics: batch renormalisation.

    layer = BatchRenorm()
    variables = layer.init(key, x)                                          # {"params": ..., "batch_stats": ...}
    y = layer.apply(variables, x)                                           # by the running statistics
    y, changed = layer.apply(variables, x, fit=True, mutable=[STATISTICS])  # by those of the batch
    variables = variables | changed

The running statistics are variables beside the parameters, in the collection `STATISTICS`; no gradient reaches them.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.types import Array

STATISTICS = "batch_stats"
"""The collection of running statistics."""

R_MAX, D_MAX = 3.0, 5.0
"""How far r and d may reach (Ioffe 2017, section 3.2)."""


class BatchRenorm(nn.Module):
    """y = scale z + bias, where z = (x - mu) / sigma, then z r + d after a warm-up.

    mu and sigma are the batch's; r = sigma / sigma' and d = (mu - mu') / sigma', of the running mu' and sigma', make z what the
    latter would. r is clipped to [1 / 3, 3], d to [-5, 5], and no gradient goes through either. Before the warm-up is over this
    is batch normalisation (Ioffe and Szegedy 2015). sigma^2 is the batch's mean squared deviation and `eps`; each batch moves
    the running mean and variance a share 1 - `momentum` of the way.

    Attributes:
      momentum: share of the running statistics that a batch leaves.
      warmup: batches before r and d count; they jump to their bounds then, where the paper widens those slowly.
      eps: added to variances.

    References:
      Ioffe 2017, "Batch Renormalization: Towards Reducing Minibatch Dependence in Batch-Normalized Models", Algorithm 1.
    """

    momentum: Array | float = 0.99
    warmup: Array | int = 100_000
    eps: float = 1e-3

    @nn.compact
    def __call__(self, x: Array, fit: bool = False) -> Array:
        """x [..., F], all of whose leading axes are the batch, -> [..., F]; `fit` goes by the batch and remembers it."""
        shape = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        running_mean = self.variable(STATISTICS, "mean", jnp.zeros, shape, jnp.float32)
        running_variance = self.variable(STATISTICS, "variance", jnp.ones, shape, jnp.float32)
        num_batches = self.variable(STATISTICS, "num_batches", jnp.zeros, (), jnp.int32)
        deviation = jnp.sqrt(running_variance.value + self.eps)
        if not fit:
            return (x - running_mean.value) / deviation * scale + bias
        axes = tuple(range(x.ndim - 1))
        mean, variance = jnp.mean(x, axes), jnp.var(x, axes)
        of_batch = jnp.sqrt(variance + self.eps)
        is_warm = num_batches.value >= self.warmup
        r = jnp.where(is_warm, jnp.clip(of_batch / deviation, 1 / R_MAX, R_MAX), 1.0)
        d = jnp.where(is_warm, jnp.clip((mean - running_mean.value) / deviation, -D_MAX, D_MAX), 0.0)
        running_mean.value += (1.0 - self.momentum) * (jax.lax.stop_gradient(mean) - running_mean.value)
        running_variance.value += (1.0 - self.momentum) * (jax.lax.stop_gradient(variance) - running_variance.value)
        num_batches.value += 1
        z = (x - mean) / of_batch * jax.lax.stop_gradient(r) + jax.lax.stop_gradient(d)
        return z * scale + bias
