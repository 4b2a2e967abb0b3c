"""No update of an agent that learns from replay copies the replay, where it is donated."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from helpers import AS_USERS, progress_at, slow_but
from jaxrl.agents import AGENTS, load_agent
from jaxrl.config import as_arrays
from jaxrl.loop import build
from jaxrl.types import ArraySpec, Box, Discrete, Rollout, Spec, spec_zeros

CAPACITY = 300_000
FIELDS = {"num_envs": 1, "rollout_length": 1, "hidden": (4,), "capacity": CAPACITY, "batch_size": 8}
VARIANTS = {"dqn-prioritized": {"prioritized": True}, "dqn-n_step": {"n_step": 3}, "sac-more": {"update_to_data": 3.0}}
REPLAYING = sorted(n for n in AGENTS if {"hidden", "batch_size", "capacity"} <= {*load_agent(n)[1].__dataclass_fields__})


@pytest.mark.optimized
@pytest.mark.parametrize("name", slow_but(("sac", "dqn"), [*REPLAYING, *VARIANTS]))
def test_an_update_writes_the_replay_in_place(name: str) -> None:
    """Arguments, outputs and temporaries without what is aliased are at most 1.2 times the replay."""
    make_agent, config_class = load_agent(name.partition("-")[0])
    fields = FIELDS | VARIANTS.get(name, {})
    config = config_class(**{k: v for k, v in fields.items() if k in config_class.__dataclass_fields__})
    action: Any = Box((6,)) if ".continuous." in make_agent.__module__ else Discrete(3)
    spec = Spec(ArraySpec((17,), "float32"), action, 10)
    agent, key, progress = build(make_agent, as_arrays(config), spec), jax.random.key(0), progress_at(1, 10)
    state = jax.eval_shape(agent.init, key)
    obs, steps = spec_zeros(spec.obs, (1,)), jnp.zeros((1, 1))

    def act(policy: Any) -> Any:
        action, _, extras = agent.act(key, policy, agent.initial_memory(1), obs, progress, True)
        return jax.tree.map(lambda leaf: leaf[None], (action, extras))

    done, extras = jax.eval_shape(act, state.policy)
    rollout = Rollout(obs[None], done, steps, steps > 0, steps > 0, obs[None], extras, {})
    update = jax.jit(lambda state, rollout: agent.update(key, state, rollout, progress), donate_argnums=0)
    memory = update.lower(state, rollout).compile(AS_USERS).memory_analysis()
    used = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state.replay))
    assert held >= CAPACITY * 70
    assert used - memory.alias_size_in_bytes <= 1.2 * held
