"""The Recurrent Attention Model (Mnih, Heess, Graves and Kavukcuoglu 2014): a network that learns where to look.

A picture is seen through T glimpses. Of what is seen at location l_t the glimpse network makes g_t, and the core remembers

    h_t = f_h(h_{t-1}, g_t)

Three heads read h_t: the location network says where to look next, l_{t+1} ~ N(tanh(f_l(h_t)), s^2) with a deviation s of the
schedule alone, the classifier says p(y | h_T) after the last glimpse, and the baseline b_t predicts the reward R, which is 1 if
the most probable class is right, else 0. Where to look is learned by REINFORCE, since no gradient passes through it; all else
by backpropagation. One iteration plays a batch of B pictures and takes one step down `hybrid_loss`.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.config import Config, agent_config, rollout_length, static, traced
from jaxrl.errors import UsageError
from jaxrl.maths import losses, optimizer, schedules
from jaxrl.maths.checks import check_shape
from jaxrl.maths.distributions import Gaussian
from jaxrl.maths.minibatches import explained_variance
from jaxrl.nets.glimpse import CORES, AttentionNetworks, Glimpse, GlimpseNetwork, Look
from jaxrl.nets.heads import Head
from jaxrl.nets.torso import CONVOLUTIONAL, torso_of
from jaxrl.types import Agent, Array, Box, Metrics, Model, Progress, PyTree, Rollout, Spec, TreeSpec, spec_zeros


@agent_config
class RAMConfig(Config):
    """The Recurrent Attention Model; sizes are the paper's, which does not tell its step sizes and deviation.

    Over 30 epochs of MNIST a location_std of 0.2 whose location_std_end_share is 0.25 learned more; over a few, less. The paper
    learns by sgd; a linear location network learned about as well so at a location_rate of 0.01 and a learning_rate of 0.03.
    """

    num_envs: int = static(128, "Pictures of one step of learning (B).", low=1)
    rollout_length: int = static(0, "Glimpses of a picture (T); 0 means all of the environment, the only right number.", low=0)
    learning_rate: float = traced(1e-3, "Step size at the start.", low=0.0, low_open=True)
    learning_rate_end_share: float = traced(
        0.0, "Share of the step size that is left at the end, along a straight line; 1 keeps it.", low=0.0, high=1.0
    )
    optimizer: str = static("adam", "adam, or sgd with momentum as in the paper.", choices=("adam", "sgd"))
    momentum: float = traced(0.9, "Momentum of sgd.", low=0.0, high=0.9999)
    max_grad_norm: float | None = static(None, "Global norm that gradients are clipped to; none for no clipping.", low=1e-8)
    units: int = static(256, "Units of the core.", low=1)
    core: str = static("rnn", "What remembers: rnn (of rectifiers) or lstm.", choices=tuple(CORES))
    glimpse_units: int = static(128, "Units of what is seen, and of where, before both are joined.", low=1)
    torso: str = static(
        "mlp",
        "What sees a glimpse: mlp (one layer of glimpse_units), or the convolutions of nature, atari2013 or minatar.",
        choices=("auto", "mlp", *CONVOLUTIONAL),
    )
    look: str = static("learned", "Where to look: learned, or uniformly at random.", choices=("learned", "random"))
    location_units: int = static(128, "Units of the location network's hidden layer; 0 for none, as in the paper.", low=0)
    location_std: float = traced(
        0.1, "Deviation of the next location about its mean while learning, at the start.", low=1e-3, high=10.0
    )
    location_std_end_share: float = traced(
        0.5, "Share of the deviation that is left at the end, along a straight line; 1 keeps it.", low=0.01, high=1.0
    )
    location_share: float = traced(
        0.3, "Share of the gradient of where to look by which core and glimpse network learn too; 0 for none.", low=0.0
    )
    location_rate: float = traced(1.0, "Step size of the location network, as a share of the others'.", low=0.0)
    baseline_rate: float = traced(1.0, "Step size of the baseline, as a share of the others'.", low=0.0)


class RAMState(NamedTuple):
    """State of the agent.

    Attributes:
      policy: parameters of glimpse network, core, location network, classifier and baseline.
      opt_state: of `jaxrl.maths.optimizer`.
    """

    policy: PyTree
    opt_state: PyTree


def make_ram(config: RAMConfig, spec: Spec, model: Model | None = None) -> Agent:
    """The attention model for observations `Glimpse` and actions `Look`, such as those of `jaxrl.envs.glimpse`.

    Raises:
      UsageError: other observations or actions, a rollout that is not one picture, or a torso that cannot see such glimpses.
    """
    networks, glimpse = networks_of(config, spec), spec_zeros(spec.obs, (1,))
    paths = spec.action.location.shape[:-1]  # () or (M,), paths of glimpses side by side.

    def init(key: Array) -> RAMState:
        params = networks.init(key, glimpse)
        return RAMState(params, (optimizer.init_momentum if config.optimizer == "sgd" else optimizer.init)(params))

    def initial_memory(num_envs: int) -> PyTree:
        return networks.core.initial_memory((num_envs, *paths))

    def act(
        key: Array, policy: PyTree, memory: PyTree, obs: Glimpse, progress: Progress, explore: bool
    ) -> tuple[Look, PyTree, PyTree]:
        memory, features = networks.remember(policy, memory, networks.see(policy, obs))
        said = networks.heads(policy, features)
        if config.look == "random":
            location = jax.random.uniform(key, said.mean.shape, jnp.float32, -1.0, 1.0)
        else:
            chosen = looks(said.mean, deviation(config, progress))
            location = chosen.sample(key) if explore else chosen.mode()
        return Look(location, classified(said.logits, len(paths))), memory, ()

    def update(key: Array, state: RAMState, rollout: Rollout, progress: Progress) -> tuple[RAMState, Metrics]:
        if paths:
            raise UsageError(
                f"samples={paths[0]} is for evaluation, and one path is learned of; give --eval-env-option samples={paths[0]}"
            )
        if "label" not in rollout.info:
            raise UsageError(
                "agent=ram learns what a picture shows of info['label'], which this environment does not have; add it"
            )
        loss = partial(loss_of, config, networks, deviation(config, progress))
        grads, metrics = jax.grad(loss, has_aux=True)(state.policy, initial_memory(config.num_envs), rollout)
        rate = schedules.linear(progress, config.learning_rate, config.learning_rate * config.learning_rate_end_share)
        # No other network learns of these losses, so their weights are step sizes, which Adam cannot scale away.
        own = {"location": rate * config.location_rate, "baseline": rate * config.baseline_rate}
        rates = dict.fromkeys(state.policy, rate) | own
        if config.optimizer == "sgd":
            step = optimizer.momentum_step(state.policy, grads, state.opt_state, rates, config.momentum, config.max_grad_norm)
        else:
            step = optimizer.step(state.policy, grads, state.opt_state, rates, config.max_grad_norm)
        return RAMState(step.params, step.opt_state), metrics | {"grad_norm": step.grad_norm, "learning_rate": rate}

    return Agent(init=init, act=act, update=update, initial_memory=initial_memory, interface=one_path)


def networks_of(config: RAMConfig, spec: Spec) -> AttentionNetworks:
    """The networks for an environment; errors as of `make_ram`."""
    spec = one_path(spec)
    obs: Any = jax.tree.unflatten(spec.obs.treedef, spec.obs.leaves) if isinstance(spec.obs, TreeSpec) else None
    if not (isinstance(obs, Glimpse) and isinstance(spec.action, Look)):
        raise UsageError(
            "agent=ram sees glimpses and says where to look, which this environment does not have; choose glimpse/digits"
        )
    if spec.time_limit is None:
        raise UsageError(
            "agent=ram plays whole pictures, and this environment has no time_limit; say how many glimpses there are"
        )
    if rollout_length(config, spec) != spec.time_limit:
        raise UsageError(
            f"rollout_length={config.rollout_length} is not the {spec.time_limit} glimpses of a picture; give rollout_length 0"
        )
    torso = torso_of(config.torso, obs.patches)
    return AttentionNetworks(
        GlimpseNetwork(config.glimpse_units, 2 * config.glimpse_units, torso),
        CORES[config.core](config.units),
        # The first looks are about the middle of the picture.
        Head(2, 0.01, (config.location_units,) if config.location_units else (), activation="relu"),
        nn.Dense(spec.action.label.n),
        nn.Dense(1),
    )


def one_path(spec: Spec) -> Spec:
    """The spec without an axis of samples: the networks are the same for any number of paths side by side."""
    if not isinstance(spec.action, Look) or spec.action.location.shape == (2,):
        return spec
    patches, location = (leaf._replace(shape=leaf.shape[1:]) for leaf in spec.obs.leaves)
    obs = TreeSpec(spec.obs.treedef, (patches._replace(picture="HWC"), location))
    return spec._replace(obs=obs, action=spec.action._replace(location=Box((2,))))


def deviation(config: RAMConfig, progress: Progress) -> Array:
    """[] of locations about their means: wide at first, so that it matters for the reward where one looks, and then narrow."""
    return schedules.linear(progress, config.location_std, config.location_std * config.location_std_end_share)


def looks(mean: Array, deviation: Array) -> Gaussian:
    """Where to look next, of its mean [..., 2] and its deviation []."""
    return Gaussian(mean, jnp.broadcast_to(jnp.log(deviation), (2,)))


def classified(logits: Array, num_axes: int) -> Array:
    """The most probable class [B] of logits [B, ..., A], whose probabilities are averaged over `num_axes` axes of samples."""
    return jnp.argmax(jnp.mean(jax.nn.softmax(logits), axis=tuple(range(1, 1 + num_axes))), axis=-1).astype(jnp.int32)


def loss_of(
    config: RAMConfig, networks: AttentionNetworks, deviation: Array, params: PyTree, memory: PyTree, rollout: Rollout
) -> tuple[Array, Metrics]:
    """`hybrid_loss` of a rollout of whole episodes, whose locations had this deviation [], from the memory they begin with."""
    said = networks.heads(params, networks.unroll(params, memory, rollout.obs), config.location_share)
    reward, label = jnp.sum(rollout.reward, axis=0), rollout.info["label"][-1]
    log_prob = looks(said.mean, deviation).log_prob(rollout.action.location)
    parts = hybrid_loss(said.logits[-1], label, log_prob[:-1], said.baseline, reward)
    if config.look == "random":
        parts = parts._replace(location=jnp.float32(0.0))
    total = parts.classification + parts.location + parts.baseline
    return total, {
        "loss": total,
        "class_loss": parts.classification,
        "location_loss": parts.location,
        "baseline_loss": parts.baseline,
        "accuracy": jnp.mean(reward),
        "explained_variance": explained_variance(jnp.broadcast_to(reward, said.baseline[-1].shape), said.baseline[-1]),
    }


class HybridLoss(NamedTuple):
    """The three terms of the loss, [] each; see `hybrid_loss`."""

    classification: Array
    location: Array
    baseline: Array


def hybrid_loss(logits: Array, label: Array, log_prob: Array, baseline: Array, reward: Array) -> HybridLoss:
    """The terms of the attention model's loss, means over B pictures.

        classification = -log p(y | h_T)
        location       = -sum_{t=1}^{T-1} log pi(l_{t+1} | h_t) (R - b_t), whose gradient is REINFORCE's, negated
        baseline       = 1/T sum_{t=1}^T (R - b_t)^2 / 2

    No gradient of the second passes through R or b_t. The location that is chosen after the last glimpse is never looked at, so
    it has no log pi here.

    Args:
      logits: [B, A] after the last glimpse.
      label: [B] int32.
      log_prob: [T - 1, B] log pi(l_{t+1} | h_t).
      baseline: [T, B] b_t.
      reward: [B] R.

    References:
      Mnih et al. 2014, "Recurrent Models of Visual Attention", section 3, "Training"; Williams 1992.
    """
    check_shape((logits.shape[0],), label=label, reward=reward)
    check_shape((baseline.shape[0] - 1, *reward.shape), log_prob=log_prob)
    classification = -jnp.mean(losses.select(jax.nn.log_softmax(logits), label))
    advantage = jax.lax.stop_gradient(reward - baseline)
    location = jnp.sum(losses.policy_gradient(log_prob, advantage[:-1])) / reward.shape[0]
    return HybridLoss(classification, location, jnp.mean(losses.squared(reward - baseline)))
