"""Agents of which one part is replaced: a target, loss, advantage or network given to `make_dqn`, `make_ppo` or `make_a2c`."""

import dataclasses
from functools import cache

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers import assert_close, progress_at, random_rollout
from jaxrl.agents import A2CConfig, DQNConfig, PPOConfig, make_a2c, make_dqn, make_ppo
from jaxrl.agents.policy_gradient.policy import Estimate
from jaxrl.config import as_arrays
from jaxrl.errors import ContractError, OwnCodeError
from jaxrl.nets.action_values import ActionValues, q_network
from jaxrl.nets.actor_critic import actor_critic
from jaxrl.types import ArraySpec, Discrete, Spec, replay_keys

SPEC = Spec(ArraySpec((3,), "float32"), Discrete(2))
DQN = DQNConfig(num_envs=2, capacity=8, batch_size=4, hidden=(4,), num_updates=3)
PROGRESS = progress_at(0, 10)


@cache
def dqn_update(**parts):
    """A DQN with these parts, its first state and what one update made of it."""
    agent = make_dqn(as_arrays(DQN), SPEC, **parts)
    state = jax.jit(agent.init)(jax.random.key(0))
    return agent, state, jax.jit(agent.update)(jax.random.key(1), state, random_rollout(SPEC, 4, 2), PROGRESS)


def two_outputs(config, spec):
    """The usual network, which says each value twice, 1 too much and 1 too little."""
    base = q_network(config, spec)

    def apply(key, params, obs):
        q = base.apply(key, params, obs)
        return {"pair": jnp.stack([q + 1, q - 1], axis=-1)}

    return ActionValues(base.init, apply, lambda outputs: jnp.mean(outputs["pair"], axis=-1))


def target_of_pairs(config, batch, outputs):
    """[N, 2], from pairs [N, A, 2]."""
    pair = outputs.target_t["pair"]
    best = jnp.argmax(jnp.mean(outputs.online_t["pair"], axis=-1), axis=-1)
    chosen = jnp.take_along_axis(pair, best[:, None, None], axis=1)[:, 0]
    return {"pair": batch.reward[:, None] + batch.discount[:, None] * (jnp.mean(chosen, -1, keepdims=True) + jnp.array([0, 0]))}


def loss_of_pairs(config, batch, output, target):
    done = jnp.take_along_axis(output["pair"], batch.action[:, None, None], axis=1)[:, 0]
    error = target["pair"] + jnp.array([1.0, -1.0]) - done
    return jnp.mean(jnp.square(error) / 2, axis=-1), jnp.mean(error, axis=-1)


def test_outputs_of_another_shape_are_learned_with_their_own_target_and_loss():
    """Here they come to the same as the usual ones."""
    usual = dqn_update()[2]
    pairs = dqn_update(network=two_outputs, target=target_of_pairs, loss=loss_of_pairs)[2]
    assert_close(usual[0].policy, pairs[0].policy)
    assert_close(usual[1], pairs[1])


def test_td_errors_come_back_to_the_replay():
    agent, state, _ = dqn_update()
    state = jax.jit(agent.observe)(state, random_rollout(SPEC, 4, 2))
    keys = replay_keys(jax.random.key(1))
    batches = agent.replay.sample(keys.sample, state.replay)
    _, metrics, feedback = jax.jit(agent.replay.learn)(keys.learn, state, batches, PROGRESS)
    assert feedback.shape == batches.place.shape == (3, 4)
    np.testing.assert_allclose(jnp.mean(jnp.abs(feedback)), metrics["td_error"], rtol=1e-6)


@pytest.mark.slow
def test_a_network_that_draws_gets_another_key_each_time_and_none_to_be_greedy():
    def drawing(config, spec):
        base = q_network(config, spec)

        def apply(key, params, obs):
            draw = jnp.float32(-1.0) if key is None else jax.random.uniform(key)
            return base.apply(key, params, obs) * 0.0 + draw * jnp.array([0.0, 1.0])

        return ActionValues(base.init, apply)

    def draws(config, batch, output, target):
        return jnp.mean(output, axis=-1), target.at[3].set(output[0, 1])

    agent, state, _ = dqn_update(
        network=drawing, loss=draws, target=lambda config, batch, outputs: jnp.stack([q[0, 1] for q in outputs] + [0.0])
    )
    keys, state = replay_keys(jax.random.key(1)), state._replace(replay=agent.observe(state, random_rollout(SPEC, 4, 2)).replay)
    _, _, found = jax.jit(agent.replay.learn)(keys.learn, state, agent.replay.sample(keys.sample, state.replay), PROGRESS)
    assert len(np.unique(found)) == 12
    acted, greedy = (
        agent.act(keys.sample, state.policy, (), jnp.zeros((1, 3)), PROGRESS, explore)[0] for explore in (True, False)
    )
    assert greedy.item() == 0 and acted.shape == (1,)


def test_no_gradient_goes_through_a_target():
    """Nor through one that forgets to stop it: fitted to itself, the network stays as it was."""
    _, state, (after, metrics) = dqn_update(
        target=lambda config, batch, outputs: outputs.online_t[:, 0],
        loss=lambda config, batch, output, target: (0.0 * output[:, 0] + target, target),
    )
    assert metrics["grad_norm"] == 0.0
    assert_close(after.policy, state.policy, rtol=0, atol=0)


def test_a_part_that_returns_something_else_is_named():
    for loss, words in (
        (lambda config, batch, output, target: (jnp.mean(output), target), r"returns loss as float32\[\]; return \[4\]"),
        (lambda config, batch, output, target: target, r"returns float32\[4\]; return \(loss, td_error\)"),
    ):
        with pytest.raises(ContractError, match=words):
            dqn_update(loss=loss)
    with pytest.raises(ContractError, match="returns a Dense; return ActionValues"):
        make_dqn(DQN, SPEC, network=lambda config, spec: nn.Dense(2))
    config = PPOConfig(num_envs=4, rollout_length=6, hidden=(8,), target_kl=0.1)
    for loss, words in (
        (lambda config, batch, fitted: (fitted.value, {}), r"returns loss as float32\[6\]; return its mean"),
        (lambda config, batch, fitted: (jnp.mean(fitted.value), {}), "returns no metric approx_kl, which target_kl=0.1 needs"),
    ):
        with pytest.raises(ContractError, match=words):
            updated(make_ppo(config, SPEC, loss=loss))


LARGE = dataclasses.replace(DQN, num_envs=4, capacity=24)


def updated(agent):
    """Traces an update."""
    state = jax.eval_shape(agent.init, jax.random.key(0))
    return jax.eval_shape(agent.update, jax.random.key(1), state, random_rollout(SPEC, 6, 4), PROGRESS)


@pytest.mark.parametrize(
    ("target", "line"),
    [
        (
            lambda config, batch, outputs: jnp.mean(batch.reward),
            r"target.* returns float32\[\]; return \[4, \.\.\.\], one for each",
        ),
        (lambda config, batch, outputs: 0.0, r"target.* returns float32\[\]; return \[4, \.\.\.\], one for each transition"),
        (lambda config, batch, outputs: None, r"target.* returns a NoneType; return \[4\], one for each transition"),
        (lambda config, batch, outputs: outputs.target_t, r"target.* returns a target as float32\[4, 2\]; return \[4\], one"),
        (lambda config, batch, outputs: {"x": batch.reward[:2]}, r"returns \['x'\]float32\[2\]; return \[4, \.\.\.\]"),
    ],
)
def test_a_target_of_another_shape_is_named(target, line):
    with pytest.raises(ContractError, match=line):
        updated(make_dqn(LARGE, SPEC, target=target))


def test_a_part_that_raises_is_named():
    def few(config):
        """Takes too little."""

    config = PPOConfig(num_envs=4, rollout_length=6, hidden=(8,))
    for name, make in (
        ("target", lambda: updated(make_dqn(LARGE, SPEC, target=few))),
        ("loss", lambda: updated(make_dqn(LARGE, SPEC, loss=few))),
        ("loss", lambda: updated(make_ppo(config, SPEC, loss=few))),
        ("advantage", lambda: updated(make_ppo(config, SPEC, advantage=few))),
        ("network", lambda: make_ppo(config, SPEC, network=few)),
        ("network", lambda: make_dqn(LARGE, SPEC, network=few)),
    ):
        with pytest.raises(OwnCodeError, match=rf"^{name}='.*few' failed in {name}\(config, .*: TypeError: .*few\(\) takes 1"):
            make()


def test_an_advantage_and_networks_of_another_shape_are_named():
    config = A2CConfig(num_envs=4, rollout_length=6, hidden=(8,))

    def network(config, spec):
        return dataclasses.replace(actor_critic(config, spec), actor=nn.Dense(3))

    def of_one(config, spec):
        base = q_network(config, spec)
        return base._replace(values=lambda outputs: outputs[..., 0])

    with pytest.raises(
        ContractError, match=r"advantage\(config, steps\) returns target as float32\[4\]; return \[6, 4\], one for"
    ):
        updated(make_a2c(config, SPEC, advantage=lambda config, steps: (steps.value, steps.value[0])))
    with pytest.raises(ContractError, match=r"network='.*network': its actor returns float32\[1, 3\]; return \[1, 2\]"):
        make_a2c(config, SPEC, network=network)
    with pytest.raises(ContractError, match=r"network='.*returns a Dense; return an ActorCritic"):
        make_a2c(config, SPEC, network=lambda config, spec: nn.Dense(2))
    with pytest.raises(ContractError, match=r"values\(apply\(key, params, obs\)\) returns float32\[1\]; return \[1, 2\]"):
        make_dqn(LARGE, SPEC, network=of_one)
    with pytest.raises(ContractError, match=r"td_loss takes action values \[4, A\] and the network's output is a dict"):
        updated(make_dqn(LARGE, SPEC, network=two_outputs, target=lambda config, batch, outputs: batch.reward))
    with pytest.raises(ContractError, match=r"q_target takes action values \[4, A\] and the network's output is a dict"):
        updated(make_dqn(LARGE, SPEC, network=two_outputs))


def ones(config, steps):
    return Estimate(jnp.ones_like(steps.value), steps.value)


def test_ppo_learns_from_the_advantage_given():
    """In the first minibatch every ratio is 1: the loss is minus the advantage; a value that is its own target costs 0."""
    config = PPOConfig(
        num_envs=4, rollout_length=6, hidden=(8,), num_epochs=1, num_minibatches=1, normalize_advantage=False, entropy_coef=0.0
    )
    agent = make_ppo(as_arrays(config), SPEC, advantage=ones)
    _, metrics = jax.jit(agent.update)(
        jax.random.key(1), jax.jit(agent.init)(jax.random.key(0)), random_rollout(SPEC, 6, 4), PROGRESS
    )
    np.testing.assert_allclose([metrics["policy_loss"], metrics["value_loss"]], [-1.0, 0.0], atol=1e-6)


def test_a2c_learns_from_the_advantage_given():
    """Of weights 1, the policy's loss is minus the mean log-probability."""
    config = A2CConfig(num_envs=4, rollout_length=6, hidden=(8,))
    agent, rollout = make_a2c(as_arrays(config), SPEC, advantage=ones), random_rollout(SPEC, 6, 4)
    state, networks = jax.jit(agent.init)(jax.random.key(0)), actor_critic(config, SPEC)
    log_prob = networks.distribution(
        state.policy.params, networks.step(state.policy.params, (), networks.inputs((), rollout.obs))[1]
    ).log_prob(rollout.action)
    _, metrics = jax.jit(agent.update)(jax.random.key(1), state, rollout, PROGRESS)
    np.testing.assert_allclose([metrics["policy_loss"], metrics["value_loss"]], [-jnp.mean(log_prob), 0.0], atol=1e-6)


def test_ppo_minimises_the_loss_given_through_the_modules_given():
    """The gradient of the mean value by a critic without hidden layers, on a torso that is the identity but for its kernel."""

    def network(config, spec):
        return dataclasses.replace(actor_critic(config, spec), torso=nn.Dense(5, use_bias=False), critic=nn.Dense(1))

    def loss(config, batch, fitted):
        return jnp.mean(fitted.value), {"approx_kl": jnp.float32(0.0)}

    config = PPOConfig(num_envs=4, rollout_length=6, hidden=(8,), num_epochs=1, num_minibatches=1, max_grad_norm=None)
    agent, rollout = make_ppo(as_arrays(config), SPEC, loss=loss, network=network), random_rollout(SPEC, 6, 4)
    state = jax.jit(agent.init)(jax.random.key(0))
    params = state.policy.params
    kernel, critic = params["torso"]["params"]["kernel"], params["critic"]["params"]["kernel"]
    _, metrics = jax.jit(agent.update)(jax.random.key(1), state, rollout, PROGRESS)
    mean = np.mean(np.asarray(rollout.obs), axis=(0, 1))
    expected = np.sqrt(np.sum(np.outer(mean, critic[:, 0]) ** 2) + np.sum((mean @ kernel) ** 2) + 1.0)
    np.testing.assert_allclose(metrics["grad_norm"], expected, rtol=1e-5)
