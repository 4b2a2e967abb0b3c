"""AlphaZero (Silver et al. 2018): a network learns from what a search with it recommends, and from how the games end.

Both players are the agent. In every position the search looks ahead with the network's policy p and value v and recommends a
better policy pi, by which it moves; a game that ends with the outcome z, seen by the player to move, then teaches

    loss = (z - v)^2 - sum_a pi(a) log p(a)

of positions drawn from a replay of the last games, turned and mirrored where the game does not mind. One iteration plays T
moves in B games at once and takes `num_updates` steps down that loss. Games go on from one iteration to the next; a position
whose game is not over has no outcome yet, and one whose game was cut never gets one: of them pi alone is learned. So it is with
the first positions of a game that begins at random (`opening_share`): its outcome is not that of how the agent would play.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.agents.search.trees import Searched, gumbel_search, puct_search
from jaxrl.config import MAX_REPEATS, Config, agent_config, static, traced
from jaxrl.errors import UsageError
from jaxrl.maths import losses, optimizer, schedules
from jaxrl.maths.exploration import random_legal
from jaxrl.nets.inputs import ILLEGAL
from jaxrl.nets.residual import PolicyValue
from jaxrl.replay import games
from jaxrl.replay.ring import Replay
from jaxrl.types import (
    Agent,
    Array,
    ArraySpec,
    Discrete,
    Metrics,
    Model,
    Position,
    Progress,
    PyTree,
    ReplayFunctions,
    Rollout,
    Spec,
    Symmetry,
    off_policy,
    position_spec,
    spec_zeros,
)

_CACHED_POSITIONS = 32
"""What a gradient is taken of at once on a CPU: all that a network of these sizes makes of more of them leaves the cache."""


@agent_config
class AlphaZeroConfig(Config):
    """AlphaZero; the defaults are for small boards on a CPU."""

    num_envs: int = static(64, "Games played side by side (B).", low=1)
    rollout_length: int = static(16, "Moves of each game in one iteration (T).", low=1)
    blocks: int = static(3, "Residual blocks, of two convolutions each.", low=0, high=1000)
    channels: int = static(32, "Channels of every convolution.", low=1)
    num_simulations: int = static(32, "Positions looked at before a move.", low=1, high=100_000)
    eval_simulations: int = static(0, "The same where the policy is scored; 0 for as many as in training.", low=0, high=100_000)
    search: str = static(
        "gumbel", "gumbel (Danihelka et al. 2022), or puct with Dirichlet noise as in the paper.", choices=("gumbel", "puct")
    )
    max_considered: int = static(16, "Moves at the root that a gumbel search looks at.", low=1)
    gumbel_scale: float = traced(1.0, "Scale of a gumbel search's noise in training.", low=0.0)
    value_scale: float = traced(
        0.1, "c_scale of a gumbel search: values from -1 to 1 times (50 + most visits) times this stand beside logits.", low=0.0
    )
    exploration: float = traced(1.25, "c_init of a puct search.", low=0.0)
    dirichlet_fraction: float = traced(0.25, "Share of noise in the root's priors of a puct search.", low=0.0, high=1.0)
    dirichlet_alpha: float = traced(
        0.3, "Concentration of that noise; less with more moves to choose from.", low=0.0, low_open=True
    )
    temperature: float = traced(1.0, "A puct search draws moves by visits to the power of 1 / temperature.", low=0.0)
    temperature_moves: int = traced(10, "Moves of a game for which it does; then it takes the most visited.", low=0)
    opening_share: float = traced(
        0.0, "Share of games that begin with random moves, to see positions that good play never reaches.", low=0.0, high=1.0
    )
    opening_moves: int = traced(8, "Random moves of such a game at most; from one on each number is alike probable.", low=1)
    capacity: int = static(30_000, "Positions that the replay holds.", low=1)
    batch_size: int = static(256, "Positions of a minibatch.", low=1)
    num_updates: int = static(8, "Gradient steps in one iteration of T x B moves.", low=1, high=MAX_REPEATS)
    learning_rate: float = traced(2e-3, "Step size of Adam at the start.", low=0.0, low_open=True)
    learning_rate_end_share: float = traced(
        0.1, "Share of the step size that is left at the end, along a straight line; 1 keeps it.", low=0.0, high=1.0
    )
    weight_decay: float = traced(1e-4, "What each weight loses at a step, as a share of step size and weight.", low=0.0)
    value_weight: float = traced(1.0, "Weight of the value's loss.", low=0.0)
    augment: bool = static(True, "Learn of positions turned and mirrored, where the game has symmetries.")
    max_grad_norm: float | None = static(None, "Global norm that gradients are clipped to; none for no clipping.", low=1e-8)

    def check(self) -> None:
        if self.capacity < self.num_envs * self.rollout_length:
            raise UsageError(
                f"capacity={self.capacity} is below num_envs * rollout_length = {self.num_envs * self.rollout_length}; raise "
                "capacity"
            )


class AlphaZeroState(NamedTuple):
    """State of the agent.

    Attributes:
      policy: parameters of the network.
      opt_state: of `jaxrl.maths.optimizer`.
      replay: of `jaxrl.replay.games`, which keeps a `Lesson` of each move.
    """

    policy: PyTree
    opt_state: PyTree
    replay: Replay


class Lesson(NamedTuple):
    """What is kept of a position to learn from, leaves [...].

    Attributes:
      planes: what the network sees.
      legal: [..., A] bool.
      policy: [..., A] float32, what the search recommended.
    """

    planes: Array
    legal: Array
    policy: Array


class Memory(NamedTuple):
    """Of the running games.

    Attributes:
      played: [B] int32, moves made.
      opening: [B] int32, how many of a game's first moves are random; drawn when it begins.
    """

    played: Array
    opening: Array


class Extras(NamedTuple):
    """What is recorded of a move.

    Attributes:
      policy: [B, A] float32, what the search recommended.
      value: [B] float32, the outcome that it expects of its own move.
      random: [B] bool, whether another one was made, by chance.
      values: [B, A] float32, the outcome that it expects of each; -inf of those that it did not look at.
    """

    policy: Array
    value: Array
    random: Array
    values: Array


class Batch(NamedTuple):
    """Of N positions.

    Attributes:
      lesson: of the search.
      outcome: [N] of their games.
      weight: [N] float32, of the outcome: 0 where it is not known, else alike and 1 on average.
    """

    lesson: Lesson
    outcome: Array
    weight: Array


def make_alphazero(config: AlphaZeroConfig, spec: Spec, model: Model | None = None) -> Agent:
    """AlphaZero for games whose observation is a `Position` and which have a model.

    Raises:
      UsageError: any other environment.
    """
    network = network_of(config, spec)
    position: Any = position_spec(spec.obs)
    if model is None:
        raise UsageError(
            "agent=alphazero looks ahead with the environment's model, which this one does not have; choose one such as "
            "pgx/tic_tac_toe, without wrappers"
        )
    rows = config.capacity // (config.num_envs * config.rollout_length) * config.rollout_length
    symmetries = spec.symmetries if config.augment else ()
    part_size = config.batch_size if jax.default_backend() != "cpu" else _CACHED_POSITIONS

    def evaluate(params: PyTree, obs: Position | Lesson) -> tuple[Array, Array]:
        return network.apply(params, obs.planes)  # type: ignore[return-value]

    def init(key: Array) -> AlphaZeroState:
        params = network.init(key, spec_zeros(position.planes, (1,)))
        planes, legal = (spec_zeros(part, (config.num_envs,)) for part in (position.planes, position.legal))
        kept = Lesson(planes, legal, jnp.zeros((config.num_envs, spec.action.n), jnp.float32))
        return AlphaZeroState(params, optimizer.init(params), games.init(kept, rows))

    def act(
        key: Array, policy: PyTree, memory: Memory, obs: Position, progress: Progress, explore: bool
    ) -> tuple[Array, Memory, Extras]:
        key_search, key_opening = jax.random.split(key)
        searched = look_ahead(key_search, config, model, partial(evaluate, policy), obs, memory.played, explore)
        action, opening, random = searched.action, memory.opening, jnp.zeros_like(obs.legal[:, 0])
        if explore:
            action, opening, random = opened(key_opening, config, obs.legal, memory, action)
        return action, Memory(memory.played + 1, opening), Extras(searched.policy, searched.value, random, searched.values)

    def store(replay: Replay, rollout: Rollout) -> Replay:
        return games.add(replay, moves_of(rollout))

    def sample(key: Array, replay: Replay) -> Batch:
        key_index, key_symmetry = jax.random.split(key)
        index = games.sample_indices(key_index, replay, (config.num_updates, config.batch_size))
        found = games.outcomes(replay)
        lesson, outcome, known = games.gather((replay.data.kept, found.outcome, found.known), index)
        num_known = jnp.sum(known, axis=-1, keepdims=True)
        weight = jnp.where(known, config.batch_size / jnp.maximum(num_known, 1), 0.0)
        return Batch(turned(key_symmetry, lesson, symmetries), outcome, weight)

    def learn(key: Array, state: AlphaZeroState, batches: Batch, progress: Progress) -> tuple[AlphaZeroState, Metrics, PyTree]:
        rate = schedules.linear(progress, config.learning_rate, config.learning_rate * config.learning_rate_end_share)

        def one(carry: tuple[PyTree, PyTree], batch: Batch) -> tuple[tuple[PyTree, PyTree], Metrics]:
            params, opt_state = carry

            def loss(params: PyTree, batch: Batch) -> tuple[Array, Metrics]:
                return loss_of(config, *evaluate(params, batch.lesson), batch)

            grads, metrics = optimizer.gradient_of_parts(loss, params, batch, part_size)
            step = optimizer.step(params, grads, opt_state, rate, config.max_grad_norm)
            kept = 1.0 - rate * config.weight_decay
            # Biases and the scales of normalisations, vectors both, do not decay.
            params = jax.tree.map(lambda leaf: leaf * kept if leaf.ndim > 1 else leaf, step.params)
            return (params, step.opt_state), metrics | {"grad_norm": step.grad_norm}

        (params, opt_state), metrics = jax.lax.scan(one, (state.policy, state.opt_state), batches)
        metrics = jax.tree.map(jnp.mean, metrics) | {"learning_rate": rate}
        return state._replace(policy=params, opt_state=opt_state), metrics, ()

    agent = off_policy(init, act, ReplayFunctions(store, sample, learn), new_games, respects_legal=True)
    return agent._replace(max_players=2)


def network_of(config: AlphaZeroConfig, spec: Spec) -> PolicyValue:
    """The network for an environment; errors as of `make_alphazero`."""
    position = position_spec(spec.obs)
    planes = None if position is None else position.planes
    if not (isinstance(planes, ArraySpec) and planes.picture == "HWC" and isinstance(spec.action, Discrete)):
        raise UsageError("agent=alphazero plays board games, which this environment is not; choose one such as pgx/tic_tac_toe")
    return PolicyValue(config.blocks, config.channels, spec.action.n)


def moves_of(rollout: Rollout) -> games.Moves:
    """What the replay keeps of T moves in B games."""
    lesson = Lesson(rollout.obs.planes, rollout.obs.legal, rollout.extras.policy)
    # What was played up to a random move has no outcome of its own, as if the game had been cut there.
    random = rollout.extras.random
    return games.Moves(lesson, rollout.reward, rollout.terminated & ~random, rollout.truncated | random)


def new_games(num_envs: int) -> Memory:
    """The memory of B games that begin."""
    return Memory(jnp.zeros(num_envs, jnp.int32), jnp.zeros(num_envs, jnp.int32))


def opened(key: Array, config: AlphaZeroConfig, legal: Array, memory: Memory, action: Array) -> tuple[Array, Array, Array]:
    """The moves of B games of self-play, of which some begin at random.

    Args:
      legal: [B, A] bool.
      action: [B], the search's.

    Returns:
      (action [B], random moves of each game [B], whether this is one [B] bool).
    """
    key_share, key_number, key_action = jax.random.split(key, 3)
    chosen = jax.random.uniform(key_share, action.shape) < config.opening_share
    number = jnp.where(chosen, jax.random.randint(key_number, action.shape, 1, config.opening_moves + 1, jnp.int32), 0)
    opening = jnp.where(memory.played == 0, number, memory.opening)
    random = memory.played < opening
    return jnp.where(random, random_legal(key_action, legal), action), opening, random


def look_ahead(
    key: Array, config: AlphaZeroConfig, model: Model, evaluate: Any, obs: Position, played: Array, explore: bool
) -> Searched:
    """The config's search in positions [B] in which `played` [B] moves have been made, with its noise where it explores."""
    simulations = config.num_simulations if explore else config.eval_simulations or config.num_simulations
    if config.search == "gumbel":
        scale = config.gumbel_scale if explore else 0.0
        return gumbel_search(key, model, evaluate, obs, simulations, config.max_considered, scale, config.value_scale)
    fraction = config.dirichlet_fraction if explore else 0.0
    temperature = jnp.where(played < config.temperature_moves, config.temperature, 0.0) if explore else 0.0
    return puct_search(
        key, model, evaluate, obs, simulations, temperature, fraction, config.dirichlet_alpha, config.exploration
    )


def turned(key: Array, lesson: Lesson, symmetries: tuple[Symmetry, ...]) -> Lesson:
    """Positions [..., N], each as it is or by one of the symmetries, all alike probable."""
    if not symmetries:
        return lesson
    planes = lesson.planes.reshape(-1, *lesson.planes.shape[-3:])
    which = jax.random.randint(key, planes.shape[:1], 0, len(symmetries) + 1)
    seen = planes
    for number, symmetry in enumerate(symmetries, 1):
        as_turned = jnp.rot90(planes, symmetry.turns, axes=(1, 2))
        as_turned = as_turned[:, :, ::-1] if symmetry.mirrored else as_turned
        seen = jnp.where((which == number)[:, None, None, None], as_turned, seen)
    num_actions = lesson.legal.shape[-1]
    table = jnp.array([tuple(range(num_actions)), *(symmetry.actions for symmetry in symmetries)], jnp.int32)
    actions = table[which].reshape(lesson.legal.shape)
    legal, policy = (jnp.take_along_axis(part, actions, axis=-1) for part in (lesson.legal, lesson.policy))
    return Lesson(seen.reshape(lesson.planes.shape), legal, policy)


def loss_of(config: AlphaZeroConfig, logits: Array, value: Array, batch: Batch) -> tuple[Array, Metrics]:
    """(z - v)^2 of the positions whose z is known, and -sum_a pi(a) log p(a) of all; means.

    Args:
      logits: [N, A].
      value: [N].
      batch: of N positions.

    References:
      Silver et al. 2017, "Mastering the game of Go without human knowledge", eq. 1.
    """
    log_policy = jax.nn.log_softmax(jnp.where(batch.lesson.legal, logits, ILLEGAL))
    # 0 log 0 of an illegal action is 0.
    policy_loss = -jnp.mean(jnp.sum(jnp.where(batch.lesson.legal, batch.lesson.policy * log_policy, 0.0), axis=-1))
    value_loss = jnp.mean(batch.weight * 2.0 * losses.squared(batch.outcome - value))
    log_target = jnp.log(jnp.maximum(batch.lesson.policy, 1e-30))
    entropy = -jnp.mean(jnp.sum(batch.lesson.policy * log_target, axis=-1))
    total = policy_loss + config.value_weight * value_loss
    return total, {
        "loss": total,
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "search_entropy": entropy,
        "known": jnp.mean(batch.weight > 0.0),
    }
