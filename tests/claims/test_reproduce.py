"""Claims run end to end on an environment that is learned in seconds: results, table, quick versions, one's own."""

import dataclasses
import json

import pytest

from jaxrl.agents import load_agent
from jaxrl.claims import GREEDY, Claim, Protocol, Published, all_claims, check_claim, find, select, tuned
from jaxrl.claims.reproduce import reproduce, reproduce_table
from jaxrl.claims.table import read_claims, row_of, write_table
from jaxrl.cli import main
from jaxrl.config import check_config
from jaxrl.errors import UsageError

PROTOCOL = Protocol(score=GREEDY, rules="probe/action")
CLAIM = Claim(
    name="probe",
    agent="ppo",
    env="probe/action",
    config={"num_envs": 4, "rollout_length": 16, "num_minibatches": 1, "hidden": (8,), "learning_rate": 0.05},
    total_steps=1_280,
    seeds=(0, 1, 2),
    published=Published(mean=1.0, deviation=0.1, kind="seeds", source="exact", env_steps=1_280, random=0.0, protocol=PROTOCOL),
    protocol=PROTOCOL,
    group="classic",
)


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    out = tmp_path_factory.mktemp("claims")
    return out, reproduce(CLAIM, out)


def test_a_claim_leaves_its_numbers_and_a_figure(reproduced):
    out, result = reproduced
    stored = json.loads((out / "probe.json").read_text())
    assert stored == json.loads(json.dumps(result))
    assert stored["verdict"] == "reproduced"
    assert list(stored["scores"]) == ["0", "1", "2"]
    assert stored["claim"]["seeds"] == [0, 1, 2] and stored["claim"]["published"]["mean"] == 1.0
    assert (out / "probe.png").read_bytes()[:4] == b"\x89PNG"


def test_the_table_is_what_the_files_say(reproduced):
    out, result = reproduced
    text = write_table(out).read_text()
    assert "| " + " | ".join(row_of(result)) + " |" in text
    assert [one["claim"]["name"] for one in read_claims(out)] == ["probe"]


def test_a_claim_that_is_complete_is_only_read(reproduced, capfd):
    out, result = reproduced
    assert reproduce(CLAIM, out)["scores"] == result["scores"]
    assert "is complete" in capfd.readouterr().err


def test_every_registered_claim_can_be_found_and_fits_its_agent():
    claims = all_claims()
    for claim in claims.values():
        assert find(claim.name) is claim
        if isinstance(claim, Claim):
            check_claim(claim)
            check_config(load_agent(claim.agent)[1](**claim.config))
    assert {claim.group for claim in select(["tables"])} == {"tables"}


def test_tuned_settings_are_found_by_agent_environment_and_options():
    claim = next(claim for claim in all_claims().values() if isinstance(claim, Claim) and claim.tuned)
    assert tuned(claim.agent, claim.env, dict(claim.env_options)) is not None
    assert tuned(claim.agent, claim.env, {"gravity": 1.0}) is None


def test_exact_tables_are_reproduced(tmp_path):
    for table in select(["tables"]):
        assert reproduce_table(table, tmp_path)["verdict"] == "reproduced", table.name


def test_a_changed_table_is_not(tmp_path):
    table = find("gridworld-figure-4.1")
    wrong = dataclasses.replace(table, values=(*table.values[:-2], -13.0, 0.0))
    assert reproduce_table(wrong, tmp_path)["verdict"] == "below"


def test_a_claim_of_ones_own_comes_from_a_file(tmp_path):
    source = tmp_path / "mine.py"
    made = "claim = dataclasses.replace(find('ppo-Hopper-v4'), name='mine')"
    source.write_text(f"import dataclasses\nfrom jaxrl.claims import find\n{made}\nother = 1\n")
    assert find(f"{source}:claim").name == "mine"
    with pytest.raises(UsageError, match="is a int"):
        find(f"{source}:other")
    with pytest.raises(UsageError, match="has no 'gone'"):
        find(f"{source}:gone")


def test_an_unknown_claim_names_the_nearest(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", "ppo-Hoper-v4"])
    assert stop.value.code == 2
    assert "ppo-Hopper-v4" in capsys.readouterr().err
