"""Settings and claims of MinAtar: those of the source, by either protocol, and that the protocol is what is played."""

import pytest

import jaxrl
from jaxrl.agents import load_agent
from jaxrl.claims import find, minatar, tuned
from jaxrl.claims.settings import tuned_claim
from jaxrl.config import check_config
from jaxrl.errors import UsageError

PUBLISHED = {"protocol": "published"}


def test_pqn_has_the_settings_of_its_authors_by_both_protocols():
    """purejaxql, config/alg/pqn_minatar.yaml: 128 environments, 32 steps, 32 minibatches, 2 epochs, rates that fall to 0."""
    config = jaxrl.tuned_config("pqn", "Breakout-MinAtar", PUBLISHED)
    assert config == jaxrl.tuned_config("pqn", "Breakout-MinAtar")
    assert (config.num_envs, config.rollout_length, config.num_minibatches, config.num_epochs) == (128, 32, 32, 2)
    assert (config.learning_rate, config.learning_rate_end_share, config.max_grad_norm) == (5e-4, 0.0, 10.0)
    assert (config.epsilon_start, config.epsilon_end, config.exploration_fraction) == (1.0, 0.05, 0.1)
    assert (config.gamma, config.td_lambda, config.layer_norm, config.torso) == (0.99, 0.65, True, "minatar")
    assert config.reward_scaling == 1.0 and config.gru is None


@pytest.mark.parametrize("settings", minatar.SETTINGS, ids=lambda settings: settings.name)
def test_each_game_has_them_by_gymnaxs_rules_and_a_claim_by_the_published_ones(settings):
    check_config(load_agent("pqn")[1](**settings.config))
    assert tuned("pqn", settings.env, {}) is settings
    assert tuned("pqn", settings.env, PUBLISHED) is find(f"pqn-{settings.env}")


def test_the_protocol_of_the_claims_is_the_one_that_is_played():
    claim = find("pqn-Breakout-MinAtar")
    env = jaxrl.make(claim.env, **claim.env_options)
    assert float(env.params["probability"]) == pytest.approx(claim.protocol.sticky_actions)
    assert (env.spec.action.n, env.spec.time_limit) == (6, None)
    assert (claim.protocol.action_set, claim.protocol.length_cap) == ("full", 0)


def test_where_there_are_none_the_games_are_named():
    with pytest.raises(UsageError, match=r"pqn has one for CartPole-v1, .*--env-option protocol=published.*, Breakout-MinAtar"):
        tuned_claim("pqn", "Acrobot-v1", {})
