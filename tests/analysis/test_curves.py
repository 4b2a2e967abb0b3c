"""Which runs make one curve, what a curve is called, and what a picture says."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes

from jaxrl.analysis.curves import plot_runs
from jaxrl.cli import main

STREAM1 = Path(__file__).parent.parent / "fixtures" / "stream1"


def write_run(folder, seed=0, end=10_000, agent="dqn", env="CartPole-v1", env_options=None, **config):
    """A run whose return rises to a hundred times its learning rate."""
    config = {"learning_rate": 0.1, "hidden": [64, 64], "max_grad_norm": None} | config
    values = {"agent": agent, "env": env, "seed": seed, "total_steps": 10_000, "num_rows": 10, "config": config}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(values | {"env_options": env_options or {}, "eval_env_options": {}}))
    rows = [{"kind": "train", "env_steps": 0, "return_mean": None}]
    for env_steps in range(1000, end + 1, 1000):
        rows.append({"kind": "train", "env_steps": env_steps, "return_mean": config["learning_rate"] * env_steps / 100 + seed})
    rows.append({"kind": "eval", "env_steps": end, "eval_return": 5.0})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def texts(folders, by=()):
    """Every text of the picture, its legend above all."""
    image = Path(folders[0]).parent / "picture.svg"
    plot_runs(folders, image, *((by,) if by else ()))
    return re.findall(r"<!-- (.*?) -->", image.read_text())


def test_runs_of_different_hyperparameters_are_curves_of_their_own(tmp_path):
    runs = [write_run(tmp_path / f"{rate}-{s}", s, learning_rate=rate) for rate in (0.1, 0.2) for s in (0, 1)]
    found = texts(runs)
    assert {"learning_rate 0.1, 2 runs", "learning_rate 0.2, 2 runs"} <= set(found)
    assert not any("hidden" in text for text in found)


@pytest.mark.parametrize("options", [{"gravity": 12.0}, {"sticky": (0, 1)}])
def test_runs_in_environments_of_other_options_are_curves_of_their_own(tmp_path, options):
    found = texts([write_run(tmp_path / "a"), write_run(tmp_path / "b", 1, env_options=options)])
    (name,) = options
    assert f"env.{name} default" in found and not any("2 runs" in text for text in found)


def test_fields_that_change_nothing_that_is_learned_tell_no_curves_apart(tmp_path):
    runs = [write_run(tmp_path / "a"), write_run(tmp_path / "b", 1)]
    path = runs[1] / "config.json"
    path.write_text(path.read_text().replace('"num_rows": 10', '"num_rows": 5, "track": ["tensorboard"]'))
    assert "dqn on CartPole-v1, 2 runs" in texts(runs)


def test_a_picture_and_a_line_say_where_a_mean_is_cut(tmp_path, capsys):
    found = texts([write_run(tmp_path / "a", 0), write_run(tmp_path / "b", 1, end=6000)])
    assert "dqn on CartPole-v1, 2 runs, mean to 6k of 10k" in found
    assert "6,000 env steps with its shortest run; the longest has 10,000" in capsys.readouterr().err


def test_by_a_field_groups_runs_and_says_of_how_many_kinds(tmp_path, capsys):
    runs = [write_run(tmp_path / f"{rate}-{s}", s, learning_rate=rate, gamma=s) for rate in (0.1, 0.2) for s in (0, 1)]
    main(["plot", *map(str, runs), "--by", "learning-rate", "--out", str(tmp_path / "x.svg")])
    assert "learning_rate 0.1, 2 runs of 2 kinds" in (tmp_path / "x.svg").read_text()
    with pytest.raises(SystemExit):
        main(["plot", *map(str, runs), "--by", "learning_rat"])
    assert "did you mean learning_rate" in capsys.readouterr().err


def test_many_curves_have_a_legend_of_the_ten_that_end_highest(tmp_path):
    found = texts([write_run(tmp_path / f"{n}", learning_rate=0.01 * (n + 1)) for n in range(30)])
    labels = [text for text in found if text.startswith("learning_rate")]
    assert labels == [f"learning_rate {0.01 * n:.4g}" for n in range(30, 20, -1)]
    assert "20 more, which end lower" in found


def test_a_sweep_can_be_drawn_beside_a_run(tmp_path):
    found = texts([write_run(tmp_path / "a"), STREAM1 / "sweep"])
    assert "ppo on CartPole-v1, learning_rate 0.001, 2 runs" in found and "dqn on CartPole-v1" in found


def test_a_search_can_be_drawn(tmp_path):
    values = {
        "agent": "dqn",
        "env": "CartPole-v1",
        "total_steps": 10_000,
        "config": {},
        "env_options": {},
        "objective": "training",
    }
    values |= {"draws": {"learning_rate": {}}, "choices": {}, "seeds": [0, 1]}
    (tmp_path / "tune.json").write_text(json.dumps(values))
    head = "number,state,value,learning_rate,env_steps,seconds\n"
    (tmp_path / "trials.csv").write_text(head + "0,complete,7,0.1,200,1\n1,pruned,,0.2,100,1\n")
    (tmp_path / "curves.csv").write_text("run,env_steps,return_mean\n0,50,3\n0,100,7\n1,50,1\n")
    assert {"learning_rate 0.1", "learning_rate 0.2"} <= set(texts([tmp_path, write_run(tmp_path / "a", learning_rate=0.3)]))


def test_texts_of_a_user_are_drawn_letter_by_letter(tmp_path):
    """Between two dollars matplotlib would set mathematics, and fail; a legend leaves out what begins with `_`."""
    runs = [write_run(tmp_path / "a", env="_e:$x^$"), write_run(tmp_path / "b", agent="_a", env="_e:$x^$")]
    found = texts(runs)
    assert any(text.endswith("_a on _e:$x^$") for text in found) and "dqn on _e:$x^$" in found


def test_a_folder_that_holds_nothing_to_draw_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["plot", str(tmp_path)])
    assert stop.value.code == 2 and f"{tmp_path} holds no run" in capsys.readouterr().err


def test_the_mean_of_runs_is_where_all_of_them_are(tmp_path, monkeypatch):
    """Returns of the two runs differ by one: their mean is half a return above the first."""
    drawn, draw = [], Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda self, *args, **kwargs: drawn.append((args, kwargs)) or draw(self, *args, **kwargs))
    plot_runs([write_run(tmp_path / "a", 0), write_run(tmp_path / "b", 1, end=6000)], tmp_path / "x.png")
    (grid, values), _ = next((args, kwargs) for args, kwargs in drawn if kwargs.get("label", "").startswith("dqn"))
    assert (grid[0], grid[-1]) == (1000, 6000)
    np.testing.assert_allclose(values, 0.1 * grid / 100 + 0.5, rtol=1e-12)
