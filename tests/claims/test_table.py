"""The table of results: of made-up results with every verdict, and of those that are committed."""

import csv
import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest

from jaxrl.claims import BEST, LAST, Claim, Protocol, Published, Table, all_claims
from jaxrl.claims.table import read_claims, row_of, write_table
from jaxrl.cli import main
from jaxrl.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "experiments" / "results"
PROTOCOL = Protocol(score=LAST, episodes=100, rules="CartPole-v1")
PUBLISHED = Published(
    mean=490.0, deviation=6.0, kind="seeds", num_seeds=3, source="A|B, table 1", env_steps=1_000, random=22.0, protocol=PROTOCOL
)
CLAIM = Claim(
    name="a", agent="ppo", env="CartPole-v1", total_steps=1_000, published=PUBLISHED, protocol=PROTOCOL, group="classic"
)
TABLE = Table(name="t", env="maze/classic", values=(1.0, 2.0), tolerance=0.05, source="a book", group="tables")


def result(claim=CLAIM, verdict="above", **changed):
    common = {"claim": dataclasses.asdict(claim), "command": f"jaxrl reproduce {claim.name}", "verdict": verdict}
    common |= {"reasons": [], "wall_seconds": 90.0, "date": "2026-01-01"}
    if isinstance(claim, Table):
        return {**common, "largest_difference": 0.01, **changed}
    numbers = {"mean": 495.24, "iqm": 496.0, "interval_95": [493.1, 500.0], "num_seeds": 5, "num_failed": 0}
    return {**common, **numbers, "env_steps": 1_000, "minutes": 1.5, **changed}


def named(name, **changed):
    return dataclasses.replace(CLAIM, name=name, **changed)


@pytest.fixture
def folder(tmp_path):
    def write(*results):
        for one in results:
            (tmp_path / f"{one['claim']['name']}.json").write_text(json.dumps(one))
        return tmp_path

    return write


def test_a_row_links_to_its_figure_and_its_bars_are_escaped(folder):
    out = folder(result())
    (out / "a.png").touch()
    text = write_table(out).read_text()
    assert "| [a](a.png) | above | 495.2 | [493.1, 500.0] | 496.0 | 5 | 490 ± 6 | 1,000 | 1.5 |" in text
    note = next(line for line in text.splitlines() if line.startswith("* `a`"))
    assert "A|B, table 1: 490 ± 6 over 3 seeds, 1,000 env steps." in note and "`jaxrl reproduce a`" in note
    assert "Score: the last training episodes (100 a seed), rules of CartPole-v1." in note


def test_the_share_is_of_comparable_claims_with_all_their_seeds(folder):
    words = ["above", "reproduced", "inconclusive", "below", "not comparable", "single run", "unfinished"]
    out = folder(*(result(named(word[:4]), word) for word in words), result(named("few"), num_seeds=3))
    text = write_table(out).read_text()
    counts = "1 above, 1 reproduced, 1 inconclusive, 1 below"
    assert f"**2 of 4 comparable claims (50%) are above or reproduced**: {counts}." in text
    assert "Not counted: 1 not comparable, 1 not of all seeds, 1 single run, 1 unfinished." in text
    assert "3 of 5" in text


def test_nothing_comparable_is_said_so(folder):
    text = write_table(folder(result(verdict="single run", interval_95=None, num_seeds=5))).read_text()
    assert "None of the 1 claims that were run can be compared: 1 single run." in text


def test_a_note_tells_both_protocols_where_they_differ_and_what_was_tried(folder):
    ours = dataclasses.replace(PROTOCOL, score=BEST, sticky_actions=0.0, length_cap=0)
    theirs = dataclasses.replace(PUBLISHED, protocol=dataclasses.replace(PROTOCOL, sticky_actions=0.25, frame_skip=4))
    claim = named(
        "b", protocol=ours, published=theirs, deviations="another network", tried="Ten step sizes.", env_options={"x": 1}
    )
    made = result(claim, "not comparable", reasons=["sticky actions differ"], final={"mean": 480.0, "interval_95": None})
    text = write_table(folder(made)).read_text()
    assert "Published score: the last training episodes (100 a seed), sticky actions 0.25, frame skip 4," in text
    ours_told = "Ours: the greedy evaluation of training at which the mean over seeds is best (100 a seed), sticky actions 0,"
    assert f"{ours_told} no cut of episodes, rules of" in text
    assert "* `b`, not comparable: Sticky actions differ. Ten step sizes.\n" in text
    assert "with `x=1`, defaults. Another network. `jaxrl" in text
    assert row_of(made)["ours"] == "495.2 (final 480.0)"


def test_exact_tables_have_columns_of_their_own(folder):
    text = write_table(folder(result(TABLE, "reproduced"))).read_text()
    assert "| [t](t.json) | reproduced | 2 | 0.01 | 0.05 |" in text and "A book. Values of the optimal policy" in text


def test_quick_versions_and_other_files_are_passed_over_and_what_was_not_run_is_named(folder):
    out = folder(result(), result(named("q"), "quick: no verdict"))
    (out / "other.json").write_text("[1]")
    text = write_table(out).read_text()
    assert [one["claim"]["name"] for one in read_claims(out)] == ["a"]
    assert all(f"`{name}`" in text for name in all_claims())


def test_the_claims_own_result_is_in_the_table_whatever_others_have_more_seeds(folder):
    out = folder(result())
    (out / "a-10-seeds.json").write_text(json.dumps(result(num_seeds=10)))
    (out / "Z.json").write_text(json.dumps(result(num_seeds=20)))
    assert [one["num_seeds"] for one in read_claims(out)] == [5]


def without(values, place):
    """A copy of a result that lacks the value at a place."""
    head, _, rest = place.partition(".")
    return {name: without(one, rest) if name == head else one for name, one in values.items() if rest or name != head}


def replaced(values, place, value):
    head, _, rest = place.partition(".")
    return values | {head: replaced(values[head], rest, value) if rest else value}


@pytest.mark.parametrize(
    "place",
    [
        *("verdict", "reasons", "command", "wall_seconds", "mean", "iqm", "interval_95", "num_seeds", "env_steps"),
        *("claim.name", "claim.group", "claim.agent", "claim.env", "claim.env_options", "claim.seeds", "claim.protocol"),
        *("claim.published.num_seeds", "claim.published.kind", "claim.published.protocol.rules", "claim.protocol.score"),
    ],
)
def test_a_result_of_another_version_is_one_line_and_nothing_is_written(folder, capsys, place):
    out = folder(result(named("b")))
    for wrong in (without(result(), place), replaced(result(), place, True)):
        (out / "a.json").write_text(json.dumps(wrong))
        assert refused(out, capsys).startswith(f"jaxrl: {out / 'a.json'} is of another version, or damaged ({place}")


def refused(out, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", "--table", "--out", str(out)])
    (line,) = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and "; reproduce its claim again" in line
    assert not (out / "README.md").exists() and not (out / "claims.csv").exists()
    return line


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *[("verdict", None), ("reasons", [1]), ("interval_95", [1.0]), ("interval_95", [None, 2.0]), ("final", {"old": 1})],
        *[("minutes", "2"), ("claim.tried", 3), ("claim.published.kind", "seed"), ("claim.protocol.score", "first")],
        *[("claim.published", None), ("claim.published", 1)],
    ],
)
def test_a_damaged_result_is_one_line(folder, capsys, place, value):
    out = folder(replaced(result(), place, value))
    assert place in refused(out, capsys)


@pytest.mark.parametrize("text", ['{"claim": {', '{"claim": {"x": 1}}', "[" * 100_000])
def test_a_foreign_file_is_one_line(folder, capsys, text):
    (folder(result()) / "foreign.json").write_text(text)
    assert "foreign.json" in refused(folder(), capsys)


@pytest.mark.parametrize("place", ["largest_difference", "claim.values", "claim.tolerance", "claim.source"])
def test_a_damaged_exact_table_is_one_line(folder, capsys, place):
    assert place in refused(folder(without(result(TABLE, "reproduced"), place)), capsys)


@pytest.mark.parametrize("name", ["minutes", "claim.tried"])
def test_results_of_before_are_read(folder, name):
    assert write_table(folder(without(result(), name))).exists()


def test_claims_csv_holds_the_numbers(folder):
    out = folder(result(), result(TABLE, "reproduced"))
    write_table(out)
    with (out / "claims.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["claim"] for row in rows] == ["a", "t"]
    assert (rows[0]["mean"], rows[0]["low"], rows[0]["published"], rows[0]["source"]) == (
        "495.24",
        "493.1",
        "490.0",
        "A|B, table 1",
    )
    assert (rows[1]["agent"], rows[1]["mean"], rows[1]["source"]) == ("", "", "a book")


def test_a_page_that_was_not_written_so_is_not_lost(folder):
    out = folder(result())
    (out / "README.md").write_text("# mine\n")
    with pytest.raises(UsageError, match="is another page"):
        write_table(out)
    assert (out / "README.md").read_text() == "# mine\n" and not (out / "claims.csv").exists()
    with pytest.raises(UsageError, match="holds no result of a claim"):
        write_table(out / "empty")


def test_the_list_shows_claims_below_their_groups(capsys):
    main(["reproduce", "tables", "ppo-CartPole-v1", "--list"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("tables: Exact tables")
    assert any(line.split()[:6] == ["ppo-CartPole-v1", "490", "±", "6", "500,000", "last"] for line in lines)
    assert any(line.split()[:4] == ["gridworld-slippery", "11", "values", "exact"] for line in lines)
    assert [line for line in lines if not line.startswith(" ")] == [lines[0], next(one for one in lines if "classic: " in one)]


# --- what is committed ------------------------------------------------------------------------------------------------


def test_the_committed_table_is_what_the_committed_files_say(tmp_path):
    for path in RESULTS.iterdir():
        if path.suffix in (".json", ".png"):
            shutil.copy(path, tmp_path)
    write_table(tmp_path)
    again = "write it again: jaxrl reproduce --table --out experiments/results"
    for name in ("README.md", "claims.csv"):
        assert (RESULTS / name).read_text() == (tmp_path / name).read_text(), again


def test_what_is_committed_and_below_says_what_was_tried():
    below = [one["claim"] for one in read_claims(RESULTS) if one["verdict"] == "below"]
    assert all(claim.get("tried") for claim in below)


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_rows_that_a_page_shows_are_those_of_the_table(page):
    rows = {one["claim"]["name"]: row_of(one) for one in read_claims(RESULTS)}
    columns, shown = [], 0
    for line in (ROOT / page).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if cells[0] == "claim":
            columns = cells
        elif columns and (found := re.fullmatch(r"\[(.*)\]\((.*)\)", cells[0])):
            assert dict(zip(columns, [found[1], *cells[1:]], strict=True)).items() <= rows[found[1]].items(), line
            assert (ROOT / page).parent.joinpath(found[2]).exists()
            shown += 1
        elif not line.startswith("|"):
            columns = []
    assert shown or page != "README.md"
