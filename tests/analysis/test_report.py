"""The tables of a sweep and its report."""

import itertools
import json
import re
import shlex
import xml.etree.ElementTree as ElementTree
from base64 import b64decode
from html.parser import HTMLParser

import numpy as np
import pytest

from jaxrl.agents.value.dqn import DQNConfig
from jaxrl.analysis import report
from jaxrl.analysis.report import write_report
from jaxrl.analysis.results import format_value, rank, read_cell, read_results, score_runs, write_curves, write_results
from jaxrl.cli import options as opts
from jaxrl.cli.commands import TrainOptions
from jaxrl.errors import UsageError
from jaxrl.fields import to_json
from jaxrl.runs.definition import Run
from jaxrl.sweeps.plan import Sweep
from jaxrl.sweeps.solo import run_of

SECTIONS = ["best", "curves", "configs", "improvement", "profiles", "sensitivity", "parallel", "failed", "reading", "commands"]
COMMAND = "jaxrl sweep dqn --env CartPole-v1 --grid learning_rate=0.001,0.01 --seeds 3"


def write_sweep(folder, fields=(), configs=((),), num_seeds=3, quality=lambda config: 100.0, status=None, noise=5.0, **changes):
    """A finished sweep whose runs score `quality` of their config and a little chance."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rows, curves = [], []
    for run, (config, seed) in enumerate(itertools.product(range(len(configs)), range(num_seeds))):
        ended = (status or {}).get(run, "ok")
        score = None if ended == "nan" else quality(configs[config]) + noise * rng.normal()
        steps = np.arange(1, 11) * 1000
        curve = (score or 50.0) * (1.0 - np.exp(-steps / 3000.0))
        curves += [
            {"run": run, "env_steps": s, "return_mean": v if s > 1000 else None} for s, v in zip(steps, curve, strict=True)
        ]
        scores = {"final_return": score, "eval_return": score and score + 1.0, "area_under_curve": score and 0.7 * score}
        row = {"run": run, "config": config, "seed": seed, "status": ended, "env_steps": 10_000, "wall_seconds": 1.5}
        rows.append(row | scores | dict(zip(fields, configs[config], strict=True)))
    write_results(folder / "results.csv", fields, rows)
    write_curves(folder / "curves.csv", curves)
    sweep = {"agent": "dqn", "env": "CartPole-v1", "total_steps": 10_000, "fields": list(fields), "command": COMMAND}
    sweep |= {"seeds": list(range(num_seeds)), "versions": {"python": "3.11.7", "jax": "0.8.1"}, "device": "cpu"}
    sweep |= {"config": {"learning_rate": 0.001, "hidden": [64, 64], "double": True, "max_grad_norm": None}}
    (folder / "sweep.json").write_text(json.dumps(sweep | changes))
    summary = {"runs": len(rows), "configs": len(configs), "groups": 1, "batches": 1, "compilations": 2}
    summary |= {"wall_seconds": 312.0, "peak_bytes": 1_300_000_000, "env_steps": 10_000 * len(rows)}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


class Page(HTMLParser):
    """What a page shows: its elements, the ids of its sections, its text."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())
        self.sections = [attributes["id"] for tag, attributes in self.elements if tag == "section"]
        self.images = [attributes for tag, attributes in self.elements if tag == "img"]

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)


def page_of(folder):
    path = write_report(folder)
    assert path == folder / "report.html"
    assert [p.name for p in folder.iterdir() if "partial" in p.name] == []
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Six configs of eight seeds, two of whose runs became NaN and one of which was stopped."""
    configs = list(itertools.product([1e-4, 1e-3, 1e-2], [(64, 64), (128, 128)]))
    return write_sweep(
        tmp_path_factory.mktemp("grid"),
        ("learning_rate", "hidden"),
        configs,
        num_seeds=8,
        quality=lambda config: 400.0 - 80.0 * abs(np.log10(config[0]) + 3.0) + config[1][0] / 8,
        status={33: "nan", 41: "nan", 3: "stopped"},
    )


@pytest.fixture(scope="module")
def grid_page(grid):
    return page_of(grid)


# --- tables ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ((64, 64), "64x64"),
        (None, "none"),
        (True, "true"),
        (False, "false"),
        (3, "3"),
        (0.1 + 0.2, "0.30000000000000004"),
        (0.3, "0.3"),
        (1e-5, "1e-05"),
        (0.123456789123, "0.123456789123"),
        ("adam", "adam"),
        ("0x10y", "0x10y"),
        ((), "()"),
        ((0.5, 1e-3), "0.5x0.001"),
        (np.float32(0.25), "0.25"),
        (np.int64(7), "7"),
        (np.bool_(True), "true"),
    ],
)
def test_values_are_written_as_on_the_command_line(value, text):
    assert format_value(value) == text
    assert read_cell(text) == pytest.approx(value) if isinstance(value, float) else read_cell(text) == value


def test_results_have_the_columns_that_scripts_rely_on(tmp_path):
    row = {"run": 0, "config": 0, "hidden": (64, 64), "env.gravity": 9.8, "seed": 3, "status": "ok", "env_steps": 1000}
    row |= {"final_return": 1 / 3, "eval_return": None, "area_under_curve": float("nan"), "wall_seconds": 2.0}
    write_results(tmp_path / "results.csv", ["hidden", "env.gravity"], [row])
    write_curves(tmp_path / "curves.csv", [{"run": 0, "env_steps": 500, "return_mean": None}])
    assert (tmp_path / "results.csv").read_bytes() == (
        b"run,config,hidden,env.gravity,seed,status,env_steps,final_return,eval_return,area_under_curve,wall_seconds\n"
        b"0,0,64x64,9.8,3,ok,1000,0.333333333,,,2\n"
    )
    assert (tmp_path / "curves.csv").read_bytes() == b"run,env_steps,return_mean\n0,500,\n"
    assert len(list(tmp_path.iterdir())) == 2


def test_what_was_written_is_read(tmp_path):
    folder = write_sweep(tmp_path, ("hidden", "note"), [((64, 64), 'a,"b'), (None, "c")], num_seeds=2, status={3: "nan"})
    results = read_results(folder)
    assert results.fields == ("hidden", "note")
    assert results.values == {"hidden": ((64, 64), (64, 64), None, None), "note": ('a,"b', 'a,"b', "c", "c")}
    assert results.config.tolist() == [0, 0, 1, 1]
    assert results.status.tolist() == ["ok", "ok", "ok", "nan"]
    assert np.isnan(results.final_return).tolist() == [False, False, False, True]
    assert [curve.shape for curve in results.curves] == [(10, 2)] * 4
    assert np.isnan(results.curves[0][0, 1])


def test_a_failed_run_counts_as_the_lowest_score(tmp_path):
    results = read_results(write_sweep(tmp_path, ("x",), [(1,), (2,)], 2, lambda c: 10.0 * c[0], {2: "nan"}, noise=0.0))
    assert score_runs(results).tolist() == [10.0, 10.0, 10.0, 20.0]
    assert score_runs(results, lowest=-5.0).tolist() == [10.0, 10.0, -5.0, 20.0]
    assert np.isnan(results.final_return[2])


def test_configs_are_ranked_by_their_interquartile_mean(tmp_path):
    quality = {"bad": 1.0, "good": 9.0, "fair": 5.0}
    results = read_results(write_sweep(tmp_path, ("x",), [(name,) for name in quality], 4, lambda c: quality[c[0]], noise=0.1))
    ranked = rank(results, score_runs(results))
    assert [config.values for config in ranked] == [("good",), ("fair",), ("bad",)]
    assert [config.label for config in ranked] == ["1: good", "2: fair", "0: bad"]
    middle = np.sort(results.final_return[4:8])[1:3].mean()
    assert ranked[0].iqm == pytest.approx(middle)
    assert ranked[0].interval[0] < middle < ranked[0].interval[1]


@pytest.mark.parametrize("missing", ["sweep.json", "results.csv", "curves.csv", "summary.json"])
def test_a_folder_without_a_finished_sweep_is_refused(tmp_path, missing):
    folder = write_sweep(tmp_path)
    (folder / missing).unlink()
    with pytest.raises(UsageError, match="holds no sweep; give" if missing == "sweep.json" else f"not finished .no {missing}"):
        read_results(folder)
    assert not (folder / "report.html").exists()


def test_the_report_can_be_written_before_the_summary(tmp_path):
    folder = write_sweep(tmp_path)
    (folder / "summary.json").unlink()
    write_report(folder, {"compilations": 31, "wall_seconds": 1.0, "peak_bytes": 1})
    assert "compilations 31" in Page((folder / "report.html").read_text()).text


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("results.csv", "", "has columns"),
        ("results.csv", "run,config\n", "has columns 'run,config' instead of"),
        ("results.csv", None, "holds no run"),
        ("results.csv", "0,0,0,ok,ten,1,1,1,1", "line 2: env_steps='ten' is not a number"),
        ("results.csv", "0,0,0,ok,10,high,1,1,1", "line 2: final_return='high' is not a number"),
        ("results.csv", "0,0,0,lost,10,1,1,1,1", "line 2: status='lost' is none of ok, nan, stopped"),
        ("results.csv", "0,0,0,ok", "line 2 has 4 cells instead of 9"),
        ("curves.csv", "run,env_steps,return_mean\n0,x,1\n", "line 2: env_steps='x' is not a number"),
        ("sweep.json", "{", "cannot be read"),
        ("sweep.json", "[]", "no table of names"),
        ("sweep.json", '{"fields": 3}', "fields=3 is not a list of names"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_in_one_line(tmp_path, name, text, message):
    folder = write_sweep(tmp_path)
    header = (folder / "results.csv").read_text().splitlines()[0]
    if name == "results.csv" and (text is None or text.startswith("0")):
        text = f"{header}\n{text or ''}\n"
    (folder / name).write_text(text)
    with pytest.raises(UsageError, match=re.escape(message)) as error:
        read_results(folder)
    assert "\n" not in str(error.value)


# --- report ---------------------------------------------------------------------------------------------------------


def test_the_report_has_all_its_sections_and_pictures(grid_page):
    assert grid_page.sections == SECTIONS
    assert len(grid_page.images) == 6
    for image in grid_page.images:
        assert image["alt"]
        svg = b64decode(image["src"].removeprefix("data:image/svg+xml;base64,"), validate=True)
        assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"


def test_the_report_loads_nothing_from_elsewhere(grid, grid_page):
    for tag, attributes in grid_page.elements:
        assert tag not in ("script", "link", "iframe", "object", "base")
        assert not {"href", "srcset", "data", "background"} & attributes.keys()
        assert attributes.get("src", "data:").startswith("data:")
        assert "url(" not in attributes.get("style", "")
    page = (grid / "report.html").read_text()
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert not re.search(r"https?:", page)


def test_the_heading_says_what_was_run(grid_page):
    assert "dqn on CartPole-v1" in grid_page.text
    for card in ("runs 48", "configs 6", "seeds 8", "env steps, longest run 10,000", "env steps in all 480,000"):
        assert card in grid_page.text
    for card in ("runs ok 45", "runs nan 2", "runs stopped 1", "compilations 2", "peak memory 1.3 GB", "wall clock 5.2 min"):
        assert card in grid_page.text


def test_the_table_has_the_best_config_first(grid, grid_page):
    results = read_results(grid)
    best = results.final_return[results.config == 3]
    iqm = np.sort(best)[2:6].mean()
    assert f"3 0.001 128x128 {iqm:.1f} " in grid_page.text
    assert grid_page.text.index("3 0.001 128x128") < grid_page.text.index("2 0.001 64x64")


def test_failed_and_stopped_runs_are_listed(grid_page):
    listed = grid_page.text[grid_page.text.index("Runs that failed") :]
    assert "2 runs nan, 1 run stopped of 48." in listed
    assert "33 4 0.01 64x64 1 nan 10,000 \u2013" in listed
    assert "3 0 0.0001 64x64 3 stopped 10,000" in listed


def test_commands_and_versions_are_exact(grid_page):
    assert COMMAND in grid_page.text
    single = "jaxrl train dqn --env CartPole-v1 --total-steps 10000 --seed 0 --learning-rate 0.001 --hidden 128 128"
    assert f"{single} --double true --max-grad-norm none" in grid_page.text
    assert "python 3.11.7 jax 0.8.1" in grid_page.text


def test_the_same_sweep_gives_the_same_bytes(tmp_path):
    folder = write_sweep(tmp_path, ("x",), [(1,), (2,)], num_seeds=2)
    assert write_report(folder).read_bytes() == write_report(folder).read_bytes()


def test_the_report_is_of_a_size_to_send(grid, grid_page):
    assert 100_000 < (grid / "report.html").stat().st_size < 2_000_000


def test_swept_parameters_of_the_environment_are_options_of_the_command(tmp_path):
    folder = write_sweep(tmp_path, ("env.gravity",), [(9.8,), (12.0,)], env_options={"length": 2})
    assert re.search(r"--env-option length=2 gravity=(9.8|12)", page_of(folder).text)


def test_text_is_escaped(tmp_path):
    bad = "<script>alert(1)</script>&'\""
    folder = write_sweep(tmp_path, (bad,), [(f"$x{bad}",), (r"$\frac$",)], agent=bad, env=bad, command=bad, versions={bad: bad})
    page = page_of(folder)
    assert "script" not in {tag for tag, _ in page.elements}
    assert page.text.count(bad) > 5
    assert shlex.quote(bad) in page.text


def test_one_config_and_nothing_swept(tmp_path):
    page = page_of(write_sweep(tmp_path, num_seeds=10))
    assert page.sections == SECTIONS
    assert len(page.images) == 3
    assert "Nothing swept" in page.text
    assert page.text.count("No hyperparameter was swept.") == 2
    assert "It takes two configs" in page.text


def test_one_seed_has_no_intervals(tmp_path):
    rng = np.random.default_rng(1)
    configs = [(10 ** rng.uniform(-5, -1), rng.uniform(0.9, 1.0), str(rng.choice(["adam", "sgd"]))) for _ in range(30)]
    fields = ("learning_rate", "gamma", "optimizer")
    page = page_of(write_sweep(tmp_path, fields, configs, num_seeds=1, quality=lambda c: 100 * c[1], noise=1.0))
    assert "No interval can be given" in page.text
    assert "with one run each it is 0 or 1" in page.text
    assert "The best 25 of 30 configs" in page.text
    assert len(page.images) == 5


def test_one_run_alone(tmp_path):
    page = page_of(write_sweep(tmp_path, ("double",), [(True,)], num_seeds=1))
    assert page.sections == SECTIONS
    assert "No interval can be given" in page.text


def test_all_runs_nan(tmp_path):
    folder = write_sweep(tmp_path, ("x",), [(1,), (None,)], num_seeds=2, status=dict.fromkeys(range(4), "nan"))
    (folder / "curves.csv").write_text("run,env_steps,return_mean\n")
    page = page_of(folder)
    assert page.sections == SECTIONS
    assert page.images == []
    assert page.text.count("No run has a score.") == 4
    assert "4 runs nan" in page.text


@pytest.mark.parametrize("scores", ["equal", "negative", "huge"])
def test_scores_of_any_size_are_drawn(tmp_path, scores):
    quality = {"equal": 0.0, "negative": -1234.5, "huge": 3e12}[scores]
    page = page_of(write_sweep(tmp_path, ("x",), [(0,), (5,)], quality=lambda c: quality, noise=0.0))
    assert len(page.images) == 6


def test_five_hundred_runs_stay_a_file_to_send(tmp_path):
    rng = np.random.default_rng(1)
    configs = [(10 ** rng.uniform(-5, -1), rng.uniform(0.0, 1.0)) for _ in range(500)]
    folder = write_sweep(tmp_path, ("learning_rate", "epsilon"), configs, num_seeds=1, noise=20.0)
    assert len(page_of(folder).images) == 5
    assert (folder / "report.html").stat().st_size < 5_000_000


def test_texts_that_a_spreadsheet_would_run_come_back_from_a_table(tmp_path):
    folder = write_sweep(tmp_path / "sweep", ("env.map",), (("=1+1",), ("@x",), (-3,)))
    assert set(read_results(folder).values["env.map"]) == {"=1+1", "@x", -3}
    assert ",=" not in (folder / "results.csv").read_text()


def test_texts_of_a_user_are_shown_letter_by_letter_in_a_report(tmp_path):
    """Markup of HTML, of rich, of matplotlib and of a template."""
    text = "</pre><b>[/y]_{0}$x^$&amp;"
    folder = write_sweep(tmp_path / "sweep", (f"env.{text}",), ((text,), ("b",)), num_seeds=1, agent=f"own:{text}")
    page = page_of(folder)
    assert f"own:{text} on CartPole-v1" in page.text and f"Swept: env.{text}." in page.text


SWEPT = Sweep(
    "dqn",
    "CartPole-v1",
    DQNConfig(gamma=0.1 + 0.2, hidden=(), max_grad_norm=None, loss="huber"),
    {"gravity": 9.8, "mask_observation": [0, 2]},
    total_steps=10_000,
    eval_env_options={"time_limit": 7},
    checkpoint_seconds=1e9,
    fields=("learning_rate", "hidden", "env.gravity", "env.note"),
    configs=(
        {"learning_rate": 1 / 3, "hidden": (8, 16), "env.gravity": 10.000000001, "env.note": "12"},
        {"learning_rate": 1e-9, "hidden": (8,), "env.gravity": 2, "env.note": "a b = $x"},
        {"learning_rate": 0.5, "hidden": (), "env.gravity": 3, "env.note": (4, 1)},
        {"learning_rate": 0.5, "hidden": (2,), "env.gravity": -1e-20, "env.note": None},
    ),
    seeds=(3, 4),
)


@pytest.mark.parametrize("best", range(4))
def test_the_printed_command_is_read_back_as_the_run(tmp_path, best):
    configs = [tuple(config.values()) for config in SWEPT.configs]
    written = json.loads(json.dumps(to_json(SWEPT)))
    folder = write_sweep(tmp_path, SWEPT.fields, configs, 2, lambda values: float(values == configs[best]), noise=0.01)
    (folder / "sweep.json").write_text(json.dumps(written))
    results = read_results(folder)
    words = shlex.split(report._train(results, rank(results, score_runs(results))[0]))
    assert words[:3] == ["jaxrl", "train", "dqn"]
    config, run, *_ = opts.read_agent("train", "dqn", words[3:], Run, opts.Processes, TrainOptions)
    wanted = run_of(SWEPT, 2 * best, SWEPT.configs[best])
    assert to_json(Run(agent="dqn", config=config, **run)) == to_json(wanted) | {"seed": run["seed"]}
    assert run["seed"] in (0, 1)


def test_the_env_steps_of_a_report_are_those_done(tmp_path):
    """Rollouts end a run a little behind the env steps that were asked for."""
    page = page_of(write_sweep(tmp_path / "sweep", num_seeds=1, total_steps=9_999))
    assert "env steps, longest run 10,000" in page.text and "9,999" not in page.text
