"""Claims run end to end on an environment that is learned in seconds: results, table, quick versions, one's own."""

import dataclasses
import json
import math
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from jaxrl.agents import load_agent
from jaxrl.claims import BEST, GREEDY, Claim, Protocol, Published, all_claims, check_claim, find, select, tuned
from jaxrl.claims import reproduce as engine
from jaxrl.claims.claim import NUM_LAST, sized
from jaxrl.claims.reproduce import reproduce, reproduce_table
from jaxrl.claims.table import read_claims, row_of, write_table
from jaxrl.cli import main
from jaxrl.config import check_config
from jaxrl.envs import make
from jaxrl.errors import UsageError
from jaxrl.loop import NUM_RECENT
from jaxrl.sweeps.api import SweepResult, read_results

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

pytestmark = pytest.mark.usefixtures("no_report")


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
    assert f"| [probe](probe.png) | {' | '.join(list(row_of(result).values())[1:])} |" in text
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
    assert {claim.group for claim in select(["tables"]).values()} == {"tables"}
    assert NUM_LAST == NUM_RECENT


@pytest.mark.slow
def test_protocols_are_what_the_environments_say():
    for claim in all_claims().values():
        if not isinstance(claim, Claim):
            continue
        env, ours = make(claim.env, 1, **claim.env_options), claim.protocol
        limit = env.spec.time_limit or 0
        never = limit > claim.total_steps  # No episode of a run is that long: no cap.
        assert ours.length_cap in (None, 0 if never else limit), claim.name
        if settings := getattr(env, "settings", None):
            assert ours.frame_skip in (None, settings["frame_skip"]), claim.name
            assert ours.sticky_actions in (None, settings["repeat_action_probability"]), claim.name
            assert ours.action_set in (None, "full" if settings["full_action_space"] else "minimal"), claim.name


def test_tuned_settings_are_found_by_agent_environment_and_options():
    claim = next(claim for claim in all_claims().values() if isinstance(claim, Claim) and claim.tuned)
    assert tuned(claim.agent, claim.env, dict(claim.env_options)) is not None
    assert tuned(claim.agent, claim.env, {"gravity": 1.0}) is None


def test_exact_tables_are_reproduced(tmp_path):
    for table in select(["tables"]).values():
        assert reproduce_table(table, tmp_path)["verdict"] == "reproduced", table.name


def test_a_changed_table_is_not(tmp_path):
    table = find("gridworld-figure-4.1")
    wrong = dataclasses.replace(table, values=(*table.values[:-2], -13.0, 0.0))
    assert reproduce_table(wrong, tmp_path)["verdict"] == "below"


@pytest.mark.slow
@pytest.mark.parametrize("score", [GREEDY, BEST])
def test_a_claim_runs_on_a_ray_cluster(tmp_path, score):
    protocol = Protocol(score=score)
    claim = dataclasses.replace(
        CLAIM, published=dataclasses.replace(CLAIM.published, protocol=protocol), protocol=protocol, eval_every=640
    )
    result = reproduce(claim if score == BEST else CLAIM, tmp_path, executor="ray")
    assert (result["verdict"], result["num_seeds"], result["num_failed"]) == ("reproduced", 3, 0)
    assert result["wall_seconds"] > 0


@pytest.fixture
def made_up(reproduced, monkeypatch):
    """A sweep that takes no time: of the asked seeds, with the scores of a real one, or with others."""
    folder = reproduced[0] / "runs" / "probe"
    real = read_results(folder)

    def make(scores=None, statuses=None):
        def sweep(agent, env, *, seeds, **options):
            num = len(seeds)
            columns = {name: np.resize(getattr(real, name), num) for name in ("status", "env_steps", "wall_seconds", "run")}
            columns["eval_return"] = np.resize(real.eval_return if scores is None else scores, num)
            columns["final_return"] = columns["eval_return"]
            if statuses is not None:
                columns["status"] = np.array(statuses)
            return SweepResult(folder, real._replace(seed=np.array(seeds), curves=(), **columns))

        monkeypatch.setattr(engine, "sweep", sweep)
        monkeypatch.setattr(engine, "draw_claim", lambda *arguments: None)

    make()
    return make


def test_neither_a_quick_version_nor_other_numbers_of_seeds_replace_a_result(made_up, tmp_path):
    whole = reproduce(CLAIM, tmp_path)
    words = {number: reproduce(CLAIM, tmp_path, number)["verdict"] for number in (1, 2, 5)}
    quick = [reproduce(CLAIM, tmp_path, number, quick=True)["verdict"] for number in (None, 3)]
    assert words == {1: "single run", 2: "single run", 5: "reproduced"}
    assert quick == ["quick: no verdict"] * 2
    assert json.loads((tmp_path / "probe.json").read_text()) == json.loads(json.dumps(whole))
    names = {path.stem for path in tmp_path.glob("*.json")}
    assert names == {"probe", "probe-1-seeds", "probe-2-seeds", "probe-5-seeds", "probe-quick", "probe-quick-3-seeds"}
    assert [one["num_seeds"] for one in read_claims(tmp_path)] == [3]  # The claim's own.
    (tmp_path / "probe.json").unlink()
    assert [one["num_seeds"] for one in read_claims(tmp_path)] == [5]


def test_fewer_seeds_than_the_claims_are_told_and_do_not_count_as_a_success(made_up, tmp_path):
    claim = dataclasses.replace(CLAIM, seeds=(0, 1, 2, 3, 4))
    result = reproduce(claim, tmp_path, 3)
    assert result["verdict"] == "reproduced"
    assert result["reasons"] == ["3 seeds, where the claim has 5"]
    assert result["command"] == "jaxrl reproduce probe --seeds 3"
    assert row_of(result)["seeds"] == "3 of 5"
    assert "comparable claims" not in write_table(tmp_path).read_text()


def test_further_seeds_pass_over_those_that_the_config_was_chosen_on():
    claim = dataclasses.replace(CLAIM, chosen_on=(3, 5))
    assert sized(claim, 6, False).seeds == (0, 1, 2, 4, 6, 7)
    assert sized(claim, 2, False).seeds == (0, 1)


@pytest.mark.parametrize("status", ["ok", "nan"])
def test_a_run_that_ended_without_a_score_is_a_failed_seed(made_up, tmp_path, status):
    made_up([1.2, math.nan, 1.3], ["ok", status, "ok"])
    result = reproduce(CLAIM, tmp_path)
    assert result["num_failed"] == 1 and result["mean"] == pytest.approx((1.2 + 0.0 + 1.3) / 3)
    assert result["scores"] == {"0": 1.2, "1": None, "2": 1.3}
    assert result["verdict"] == "inconclusive"


def test_the_best_score_is_of_the_time_at_which_the_mean_over_seeds_is_greatest(tmp_path):
    """Seed 0 is best after 10 env steps, seed 1 after 20, and both together after 20; a time that one lacks does not count."""
    evaluations = ({10: 5.0, 20: 4.0, 30: 0.0}, {10: 1.0, 20: 3.0, 30: None})

    class Trained:
        results = SimpleNamespace(run=np.array([0, 1]))

        def run_folder(self, run: int) -> Path:
            folder = tmp_path / str(run)
            folder.mkdir()
            rows = [{"kind": "eval", "env_steps": steps, "eval_return": score} for steps, score in evaluations[run].items()]
            (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            return folder

    np.testing.assert_array_equal(engine._best(Trained()), [4.0, 3.0])


def test_a_best_score_has_the_final_one_beside_it(made_up, tmp_path, monkeypatch):
    made_up([0.5, 0.6, 0.7])
    monkeypatch.setattr(engine, "_best", lambda trained: np.resize([0.95, 1.0, 1.05], len(trained.results.run)))
    best = Protocol(score=BEST)
    claim = dataclasses.replace(
        CLAIM, published=dataclasses.replace(CLAIM.published, protocol=best), protocol=best, eval_every=128
    )
    result = reproduce(claim, tmp_path)
    assert (result["verdict"], result["mean"]) == ("reproduced", 1.0)
    assert result["final"] == {"mean": 0.6, "interval_95": [0.5, 0.7]}
    assert row_of(result)["ours"] == "1 (final 0.6)"
    assert reproduce(claim, tmp_path, quick=True)["final"]["interval_95"] is None
    last = dataclasses.replace(claim, protocol=CLAIM.protocol, name="last")
    result = reproduce(last, tmp_path)
    assert result["best"] == {"mean": 1.0, "interval_95": [0.95, 1.05]} and "final" not in result
    assert row_of(result)["ours"].endswith(" (best 1)")
    assert sized(claim, None, True).eval_every == 32  # The middle and the last of 64 env steps.


def test_the_seconds_are_those_of_all_runs_and_the_date_that_of_their_end(made_up, reproduced, tmp_path):
    folder = reproduced[0] / "runs" / "probe"
    os.utime(folder / "summary.json", (0, 86_400 * 365.25))
    result = reproduce(CLAIM, tmp_path)
    assert result["date"].startswith("197")
    assert result["wall_seconds"] == pytest.approx(read_results(folder).wall_seconds.sum(), abs=1e-3)
    assert result["minutes"] == pytest.approx(result["wall_seconds"] / 60, abs=0.01)


def test_numbers_of_numpy_in_a_config_are_written(made_up, tmp_path):
    reproduce(dataclasses.replace(CLAIM, config={"learning_rate": np.float32(0.5)}), tmp_path)
    assert json.loads((tmp_path / "probe.json").read_text())["claim"]["config"] == {"learning_rate": 0.5}


# --- claims of one's own ------------------------------------------------------------------------------------------------

OWN = """
from __future__ import annotations
import dataclasses
from jaxrl.claims import find

@dataclasses.dataclass
class Setting:
    rate: float = 1e-3

claim = dataclasses.replace(find("ppo-CartPole-v1"), name="mine")
agentless = dataclasses.replace(claim, name="agentless", agent="pppo")
envless = dataclasses.replace(claim, name="envless", env="CartPol-v1")
fieldless = dataclasses.replace(claim, name="fieldless", config={"learning_rat": 1.0})
optionless = dataclasses.replace(claim, name="optionless", env_options={"gravit": 1.0})
overlapping = dataclasses.replace(claim, name="overlapping", seeds=(100, 101, 102))
counted = dataclasses.replace(claim, name="counted", config={"eval_every": 10})
timed = dataclasses.replace(claim, name="timed", config={"checkpoint_seconds": 1.0})
seeded = dataclasses.replace(claim, name="seeded", config={"seeds": 3})
numbered = dataclasses.replace(claim, name="numbered", config={7: 3})
listed = dataclasses.replace(claim, name="listed", seeds=[0, 1, 2])
table = dataclasses.replace(find("gridworld-figure-4.1"), name="grid")
other = 1
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with claims of one's own in it, as the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("jaxrl.cli.sweeps.use_all_cores", lambda arguments: None)
    (tmp_path / "my_claims.py").write_text(OWN)
    (tmp_path / "half.py").write_text("claim = (\n")
    (tmp_path / "sad.py").write_text("raise ValueError('no luck')\n")
    return tmp_path


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", *arguments])
    said = capsys.readouterr()
    assert not said.out
    return stop.value.code, said.err.splitlines()


def test_a_claim_of_ones_own_comes_from_a_file_or_a_module(own):
    assert find("my_claims.py:claim").name == find("my_claims:claim").name == "mine"
    with pytest.raises(UsageError, match=r"is a int; make it a jaxrl.claims.Claim"):
        find("my_claims:other")
    for name in ("my_claims.py:gone", "my_claims:gone", "my_claims.py:"):
        with pytest.raises(UsageError, match=r"my_claims(.py)? has no '(gone)?'; check its name"):
            find(name)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("my_claims.py:agentless", "did you mean ppo"),
        ("my_claims.py:envless", "did you mean CartPole-v1"),
        ("my_claims.py:fieldless", "did you mean learning_rate"),
        ("my_claims.py:optionless", "did you mean gravity"),
        ("my_claims.py:overlapping", "seeds=[100, 101, 102] are those that its config was chosen on"),
        ("my_claims.py:counted", "claim='counted': config: unknown field 'eval_every'; did you mean"),
        ("my_claims.py:timed", "claim='timed': config: unknown field 'checkpoint_seconds'; choose one of"),
        ("my_claims.py:seeded", "claim='seeded': config: unknown field 'seeds'; choose one of"),
        ("my_claims.py:numbered", "claim='numbered': config: unknown field '7'; choose one of"),
        ("my_claims.py", "give my_claims.py:NAME"),
        ("my_claims.py:listed", "seeds=[0, 1, 2] must be a tuple"),
        ("my_claims.py:other", "make it a jaxrl.claims.Claim"),
        ("gone.py:claim", "there is no file gone.py"),
        ("half.py:claim", "failed in the import of 'half.py': SyntaxError"),
        ("sad.py:claim", "failed in the import of 'sad.py': ValueError: no luck"),
    ],
)
def test_a_claim_that_cannot_be_run_is_one_line_and_nothing_is_written(own, capsys, name, says):
    before = {path.name for path in own.iterdir()}
    code, lines = refused(capsys, name)
    assert code == 2
    assert says in lines[-1]
    assert len(lines) == 1 or name.startswith(("half", "sad"))  # Of code of one's own, its frames come first.
    assert {path.name for path in own.iterdir()} - {"__pycache__"} == before


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        *[("claim", "total_steps", value) for value in (0, -5)],
        *[("claim", name, -1) for name in ("eval_every", "eval_episodes", "minutes")],
        *[("published", "env_steps", value) for value in (0, -5)],
        ("published", "num_seeds", 0),
        *[("published", "source", value) for value in ("", " ", "paper,\ntable 1")],
        *[("protocol", "sticky_actions", value) for value in (-0.1, 1.5)],
        ("protocol", "action_set", "ful"),
        ("protocol", "length_cap", -1),
        *[("protocol", name, 0) for name in ("frame_skip", "episodes")],
    ],
)
def test_a_value_out_of_its_range_is_one_line(part, field, value):
    if part == "claim":
        claims = [dataclasses.replace(CLAIM, **{field: value})]
    elif part == "published":
        claims = [dataclasses.replace(CLAIM, published=dataclasses.replace(CLAIM.published, **{field: value}))]
    else:
        wrong = dataclasses.replace(PROTOCOL, **{field: value})
        theirs = dataclasses.replace(CLAIM.published, protocol=wrong)
        claims = [dataclasses.replace(CLAIM, protocol=wrong), dataclasses.replace(CLAIM, published=theirs)]
    for claim in claims:
        with pytest.raises(UsageError) as error:
            check_claim(claim)
        assert str(error.value).startswith(f"claim='probe': {field}={value!r} is ") and "; " in str(error.value)
        assert len(str(error.value).splitlines()) == 1


def test_a_table_without_a_source_is_refused():
    with pytest.raises(UsageError, match="source='' is not a line of text"):
        check_claim(dataclasses.replace(find("gridworld-figure-4.1"), source=""))


def test_the_example_of_the_page_is_no_registered_claim():
    page = (Path(__file__).resolve().parents[2] / "docs" / "reproduce.md").read_text()
    names: dict = {}
    exec(page.partition("```python\n")[2].partition("```")[0], names)
    check_claim(names["claim"])
    assert names["claim"].name not in all_claims()


def test_the_list_ends_with_what_was_typed(own, capsys):
    for typed in ("my_claims.py:claim", "my_claims:claim", "tables"):
        main(["reproduce", typed, "--list"])
        assert capsys.readouterr().err.splitlines()[-1] == f"run claims or groups of them: jaxrl reproduce {typed}"


def test_two_claims_of_one_name_are_not_mixed_up(own, capsys):
    code, lines = refused(capsys, "my_claims.py:claim", "my_claims:claim")
    assert code == 2 and "are both named 'mine'" in lines[0]


def test_a_claim_that_fails_does_not_keep_the_others_from_running(own, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", "my_claims.py:envless", "my_claims.py:table", "my_claims.py:optionless"])
    said = capsys.readouterr()
    assert stop.value.code == 1
    assert said.out == "grid reproduced\n"
    assert "2 of 3 claims failed: my_claims.py:envless, my_claims.py:optionless; go on with:" in said.err.splitlines()[-1]
    assert json.loads((own / "reproduced" / "grid.json").read_text())["command"] == "jaxrl reproduce my_claims.py:table"


@pytest.mark.parametrize("fault", [MemoryError("none left"), UsageError("state is damaged")])
def test_whatever_fails_in_a_claim_is_told_and_the_others_run(own, capsys, monkeypatch, fault):
    def fail(*arguments):
        raise fault

    monkeypatch.setattr(engine, "reproduce", fail)
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", "my_claims.py:claim", "my_claims.py:table"])
    said = capsys.readouterr()
    assert (stop.value.code, said.out) == (1, "grid reproduced\n")
    assert str(fault) in said.err and "1 of 2 claims failed: my_claims.py:claim" in said.err


def test_an_unknown_claim_names_the_nearest(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", "ppo-Hoper-v4"])
    assert stop.value.code == 2
    assert "ppo-Hopper-v4" in capsys.readouterr().err
