"""The report of a finished sweep: one HTML file that needs nothing else, to read, to send or to keep beside a paper.

    write_report(Path("runs/sweep"))   # writes runs/sweep/report.html

What it says of configs is said by statistics for few runs (`jaxrl.analysis.stats`); its pictures are SVG inside the page.
"""

from __future__ import annotations

import base64
import html
import math
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.analysis import figures
from jaxrl.analysis.results import ConfigScores, Results, format_value, rank, read_results, score_runs, show_value
from jaxrl.analysis.stats import interquartile_mean
from jaxrl.fields import option_words
from jaxrl.records.files import write_whole

_NUM_ROWS = 25
_NUM_FAILED = 200
_RUN_FIELDS = ("eval_episodes", "num_rows", "eval_every", "checkpoint_seconds")
_NONE, _MINUS = "\u2013", "\u2212"
_READING = (
    "Final return: mean of a run's last 100 training episodes. Eval return: greedy policy, after training. Area under the "
    "curve: height of the learning curve, on average over env steps.",
    "Interquartile mean: mean of the middle half of the runs; of fewer than four runs, of all.",
    "Intervals: 95 %, percentile bootstrap over runs; where configs are pooled in a profile, runs are drawn anew within each.",
    "A run that became NaN counts as the lowest final return of the sweep, and is left out of the learning curve of a config "
    "with other runs. A run in which no episode ended has no score and is left out.",
    "A stopped run was ended before its time: it reached the return at which to stop, or others were more promising. It counts "
    "with what it had reached, and learning curves hold its last value.",
    "The best of many configs looks better than it is, since it was chosen by the very scores that are shown. Train it again "
    "with seeds that are not in this sweep before reporting its score.",
    "Method: Agarwal, Schwarzer, Castro, Courville and Bellemare, Deep reinforcement learning at the edge of the statistical "
    "precipice, NeurIPS 2021.",
)
_CSS = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #f5f7fa; color: #1e293b; line-height: 1.5;
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1140px; margin: 0 auto; padding: 36px 24px 60px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.01em; }
h1 small { font-weight: 400; color: #64748b; font-size: 22px; }
h2 { font-size: 18px; margin: 0 0 4px; }
p { margin: 0 0 10px; max-width: 860px; }
.note, figcaption { color: #566376; font-size: 14px; }
section { background: #fff; border: 1px solid #e2e8f0; border-radius: 10px; padding: 22px 26px; margin: 18px 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(158px, 1fr)); gap: 10px; margin: 18px 0 0; padding: 0; }
.cards div { background: #fff; border: 1px solid #e2e8f0; border-radius: 10px; padding: 10px 14px; }
.cards dt { color: #64748b; font-size: 12.5px; }
.cards dd { margin: 0; font-size: 19px; font-weight: 600; font-variant-numeric: tabular-nums; white-space: nowrap; }
.bad { color: #b4322f; }
.scroll { overflow-x: auto; margin-top: 10px; }
table { border-collapse: collapse; font-size: 14px; width: 100%; font-variant-numeric: tabular-nums; }
table.words { width: auto; min-width: 45%; }
th, td { text-align: right; padding: 6px 10px; border-bottom: 1px solid #edf1f5; white-space: nowrap; }
th { color: #566376; font-weight: 600; font-size: 12.5px; border-bottom: 1px solid #cbd5e1; vertical-align: bottom; }
th.left, td.left { text-align: left; }
tbody tr:hover { background: #f8fafc; }
td.best { font-weight: 650; }
.swatch { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 8px; }
figure { margin: 12px 0 0; overflow-x: auto; }
figure img { display: block; max-width: 100%; height: auto; }
pre { background: #f1f5f9; border-radius: 8px; padding: 12px 14px; margin: 8px 0 14px; font-size: 13px;
  white-space: pre-wrap; overflow-wrap: anywhere; }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; }
h3 { font-size: 14.5px; margin: 14px 0 2px; }
summary { cursor: pointer; color: #334155; font-weight: 600; font-size: 14.5px; }
ul { margin: 6px 0 0; padding-left: 20px; }
li { margin: 2px 0; max-width: 900px; }
footer { color: #7b8798; font-size: 13px; margin-top: 20px; }
@media print { body { background: #fff; } section { break-inside: avoid; border: 0; padding: 8px 0; } main { padding: 0; } }
"""


def write_report(folder: Path, summary: dict[str, Any] | None = None) -> Path:
    """Writes `report.html` into a finished sweep's folder.

    Args:
      summary: that of a sweep whose `summary.json` is not written yet.

    Returns:
      Its path.

    Raises:
      UsageError: a folder without a finished sweep.
    """
    results = read_results(Path(folder), summary)
    scores = score_runs(results)
    ranked = rank(results, scores)
    sections = [
        _heading(results),
        _best(results, ranked),
        _curves(results, ranked),
        _dots(ranked),
        _improvement(ranked),
        _profiles(results, scores, ranked),
        _sensitivity(results, scores),
        _parallel(results, ranked),
        _failed(results),
        _reading(),
        _commands(results, ranked),
    ]
    title = f"{results.sweep.get('agent')} on {results.sweep.get('env')}: sweep"
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(sections)
        + "\n<footer>All runs: results.csv; their curves: curves.csv.</footer>\n</main>\n</body>\n</html>\n"
    )
    path = results.folder / "report.html"
    write_whole(path, page)
    return path


# --- parts of a page ------------------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    return html.escape(str(value))


def _section(name: str, title: str, note: str, body: str) -> str:
    """`title` and `note` are plain text, `body` is HTML."""
    note = f'<p class="note">{_text(note)}</p>\n' if note else ""
    return f'<section id="{name}">\n<h2>{_text(title)}</h2>\n{note}{body}\n</section>'


def _image(image: bytes, alternative: str) -> str:
    data = base64.b64encode(image).decode()
    return f'<figure><img alt="{_text(alternative)}" src="data:image/svg+xml;base64,{data}"></figure>'


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Cells are HTML; the first `left` columns hold words."""

    def line(kind: str, cells: Sequence[str]) -> str:
        marked = [f'<{kind} class="left">' if place < left else f"<{kind}>" for place in range(len(cells))]
        return "<tr>" + "".join(f"{mark}{cell}</{kind}>" for mark, cell in zip(marked, cells, strict=True)) + "</tr>"

    body = "\n".join(line("td", row) for row in rows)
    kind = ' class="words"' if left == len(header) else ""
    return f'<div class="scroll"><table{kind}>\n<thead>{line("th", header)}</thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _decimals(values: np.ndarray) -> int:
    """Digits behind the point that values of this size deserve."""
    largest = np.abs(values[np.isfinite(values)]).max(initial=0.0)
    return int(np.clip(3 - math.floor(math.log10(largest)), 0, 4)) if largest > 0 else 1


def _number(value: float, decimals: int) -> str:
    return f"{value + 0.0:,.{decimals}f}".replace("-", _MINUS) if math.isfinite(value) else _NONE


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _duration(seconds: Any) -> str:
    if not isinstance(seconds, (int, float)):
        return _NONE
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _bytes(number: Any) -> str:
    if not isinstance(number, (int, float)):
        return _NONE
    unit, size = next(((u, n) for u, n in (("GB", 1e9), ("MB", 1e6)) if number >= n), ("kB", 1e3))
    return f"{number / size:.3g} {unit}"


# --- sections -------------------------------------------------------------------------------------------------------


def _heading(results: Results) -> str:
    sweep, summary = results.sweep, results.summary
    counts = {status: int((results.status == status).sum()) for status in ("ok", "nan", "stopped")}
    cards = {
        "runs": f"{len(results.run):,}",
        "configs": f"{len(np.unique(results.config)):,}",
        "seeds": f"{len(np.unique(results.seed)):,}",
        "env steps, longest run": f"{int(results.env_steps.max()):,}",
        "env steps in all": f"{int(results.env_steps.sum()):,}",
        **{f"runs {status}": f"{count:,}" for status, count in counts.items()},
        "wall clock": _duration(summary.get("wall_seconds")),
        "compilations": _text(summary.get("compilations", _NONE)),
        "peak memory": _bytes(summary.get("peak_bytes")),
        "device": _text(sweep.get("device", _NONE)),
    }
    alarming = {"runs nan"} if counts["nan"] else set()
    body = "".join(
        f"<div><dt>{name}</dt><dd{' class=bad' if name in alarming else ''}>{value}</dd></div>" for name, value in cards.items()
    )
    swept = f"Swept: {', '.join(results.fields)}." if results.fields else "Nothing swept: one config, many seeds."
    return (
        f'<header id="heading">\n<h1>{_text(sweep.get("agent"))} <small>on</small> {_text(sweep.get("env"))}</h1>\n'
        f'<p class="note">Hyperparameter sweep. {_text(swept)}</p>\n<dl class="cards">{body}</dl>\n</header>'
    )


def _best(results: Results, ranked: list[ConfigScores]) -> str:
    colors = figures.color_of(ranked)
    finals = np.array([config.iqm for config in ranked])
    evals, areas = results.eval_return, results.area_under_curve
    digits = [_decimals(values) for values in (finals, evals, areas)]
    header = ["config", *map(_text, results.fields), "final return<br>(IQM)", "95 % interval", "eval return<br>(IQM)"]
    header += ["area under<br>curve (IQM)", "seeds", "failed"]
    rows = []
    for config in ranked[:_NUM_ROWS]:
        color = colors.get(config.number, "#e2e8f0")
        low_high = _NONE if config.interval is None else " to ".join(_number(bound, digits[0]) for bound in config.interval)
        failed = int((results.status[config.runs] == "nan").sum())
        rows.append(
            [
                f'<span class="swatch" style="background:{color}"></span>{config.number}',
                *(_text(show_value(value)) for value in config.values),
                f"<b>{_number(config.iqm, digits[0])}</b>",
                low_high,
                _number(_middle(evals[config.runs]), digits[1]),
                _number(_middle(areas[config.runs]), digits[2]),
                str(len(config.runs)),
                f'<span class="bad">{failed}</span>' if failed else "0",
            ]
        )
    note = "Interquartile mean (IQM) over seeds with its bootstrap interval, best first."
    if all(config.interval is None for config in ranked):
        note += " No interval can be given: no config has two runs with a score."
    elif max(len(config.scores) for config in ranked) < 5:
        note += " Intervals of fewer than five seeds are too narrow to rely on."
    if len(ranked) > _NUM_ROWS:
        note += f" The best {_NUM_ROWS} of {len(ranked)} configs."
    return _section("best", "Best configs", note, _table(header, rows))


def _middle(values: np.ndarray) -> float:
    present = values[np.isfinite(values)]
    return float(interquartile_mean(present)) if len(present) else math.nan


def _nothing(why: str) -> str:
    return f"<p>{_text(why)}</p>"


def _has_score(ranked: list[ConfigScores]) -> bool:
    return bool(len(ranked[0].scores))


def _curves(results: Results, ranked: list[ConfigScores]) -> str:
    note = "Return of training episodes: the interquartile mean of a config's runs, shaded its 95 % bootstrap interval. "
    note += f"The best {figures.NUM_COLORED} configs in colour, the best first."
    if any(np.isfinite(curve[:, 1]).sum() > 1 for curve in results.curves):
        body = _image(figures.svg(figures.draw_curves, results, ranked), "Learning curves of the configs")
    else:
        body = _nothing("No run has a curve: no episode ended.")
    return _section("curves", "Learning curves", note, body)


def _dots(ranked: list[ConfigScores]) -> str:
    note = "Interquartile mean of the final return and its 95 % interval; single runs faint."
    if not _has_score(ranked):
        return _section("configs", "Configs beside each other", "", _nothing("No run has a score."))
    if all(config.interval is None for config in ranked):
        note = "Final return of each config; one run each, so that there is no interval."
    note += " Labels: a config's number, then its values in the order of the table."
    if len(ranked) > figures.NUM_DOTS:
        note += f" The best {figures.NUM_DOTS} of {len(ranked)} configs."
    return _section(
        "configs", "Configs beside each other", note, _image(figures.svg(figures.draw_dots, ranked), "Final return of configs")
    )


def _improvement(ranked: list[ConfigScores]) -> str:
    title = "Probability of improvement"
    if sum(len(config.scores) > 0 for config in ranked) < 2:
        return _section("improvement", title, "", _nothing("It takes two configs with scores to compare."))
    if all(config.interval is None for config in ranked):
        return _section("improvement", title, "", _nothing("It takes two seeds or more: with one run each it is 0 or 1."))
    note = (
        f"How likely a run of the row's config beats a run of the column's; ties count half. The best {figures.NUM_COMPARED} "
        "configs at most. Small: 95 % interval; bold where it excludes one half."
    )
    return _section("improvement", title, note, _image(figures.svg(figures.draw_improvement, ranked), title))


def _profiles(results: Results, scores: np.ndarray, ranked: list[ConfigScores]) -> str:
    if not _has_score(ranked):
        return _section("profiles", "Performance profiles", "", _nothing("No run has a score."))
    note = (
        "Fraction of runs whose final return exceeds τ: higher is better, steep is reliable. Shaded: 95 % interval at each τ."
    )
    present = np.isfinite(scores)
    image = figures.svg(figures.draw_profiles, scores[present], results.config[present], ranked)
    return _section("profiles", "Performance profiles", note, _image(image, "Performance profiles"))


def _sensitivity(results: Results, scores: np.ndarray) -> str:
    title = "Sensitivity to each hyperparameter"
    if not results.fields:
        return _section("sensitivity", title, "", _nothing("No hyperparameter was swept."))
    if not np.isfinite(scores).any():
        return _section("sensitivity", title, "", _nothing("No run has a score."))
    note = (
        "Light: single runs, whatever their other values. Dark: interquartile mean and 95 % interval over the runs of a value, "
        "or over an eighth of the runs where values are many; they show spread over the other fields too. Red crosses: runs "
        "that became NaN."
    )
    return _section("sensitivity", title, note, _image(figures.svg(figures.draw_sensitivity, results, scores), title))


def _parallel(results: Results, ranked: list[ConfigScores]) -> str:
    title = "Parallel coordinates"
    if not results.fields:
        return _section("parallel", title, "", _nothing("No hyperparameter was swept."))
    if not _has_score(ranked):
        return _section("parallel", title, "", _nothing("No run has a score."))
    note = "A line for each config, through its values to its score; dark is better."
    return _section("parallel", title, note, _image(figures.svg(figures.draw_parallel, results, ranked), title))


def _failed(results: Results) -> str:
    title, failed = "Runs that failed or stopped early", np.flatnonzero(results.status != "ok")
    if not len(failed):
        return _section("failed", title, "", _nothing("None: all runs went to their end."))
    header = ["run", "config", *map(_text, results.fields), "seed", "status", "env steps", "final return"]
    digits = _decimals(results.final_return)
    rows = [
        [
            str(results.run[row]),
            str(results.config[row]),
            *(_text(show_value(results.values[field][row])) for field in results.fields),
            str(results.seed[row]),
            f'<span class="bad">{status}</span>' if (status := str(results.status[row])) == "nan" else status,
            f"{results.env_steps[row]:,}",
            _number(float(results.final_return[row]), digits),
        ]
        for row in failed[:_NUM_FAILED]
    ]
    counts = [f"{_plural(int((results.status == status).sum()), 'run')} {status}" for status in ("nan", "stopped")]
    more = f" The first {_NUM_FAILED} are shown." if len(failed) > _NUM_FAILED else ""
    return _section("failed", title, f"{', '.join(counts)} of {len(results.run):,}.{more}", _table(header, rows))


def _reading() -> str:
    body = "<ul>" + "".join(f"<li>{_text(point)}</li>" for point in _READING) + "</ul>"
    return _section("reading", "How to read this", "", body)


def _commands(results: Results, ranked: list[ConfigScores]) -> str:
    sweep = results.sweep
    body = "<h3>This sweep</h3>\n<pre>" + _text(sweep.get("command", _NONE)) + "</pre>\n"
    if _has_score(ranked):
        body += "<h3>The best config alone, with one of its seeds</h3>\n<pre>" + _text(_train(results, ranked[0])) + "</pre>\n"
    versions = [[_text(name), _text(value)] for name, value in sweep.get("versions", {}).items()]
    body += "<h3>Versions</h3>\n" + _table(["name", "version"], versions, left=2)
    base = [[_text(name), _text(_plain(value))] for name, value in sweep.get("config", {}).items()]
    if base:
        title = f"Base config ({_plural(len(base), 'field')})"
        body += f"<details><summary>{title}</summary>{_table(['field', 'value'], base, 2)}</details>"
    return _section("commands", "Commands and versions", "", body)


def _plain(value: Any) -> str:
    return format_value(tuple(value) if isinstance(value, list) else value)


def _train(results: Results, config: ConfigScores) -> str:
    """The `jaxrl train` command of one run of a config, with every field that its command needs."""
    sweep = results.sweep
    swept = _values(results, config)
    options = {name.removeprefix("env."): value for name, value in swept.items() if name.startswith("env.")}
    fields = {name: value for name, value in swept.items() if not name.startswith("env.")}
    words = ["jaxrl", "train", str(sweep.get("agent")), *option_words("env", sweep.get("env"))]
    words += [*option_words("total_steps", sweep.get("total_steps")), "--seed", str(results.seed[config.runs[0]])]
    for name, value in {**sweep.get("config", {}), **fields}.items():
        words += option_words(name, value)
    for name in _RUN_FIELDS:
        words += option_words(name, sweep[name]) if name in sweep else []
    for flag, given in (
        ("env_option", {**sweep.get("env_options", {}), **options}),
        ("eval_env_option", sweep.get("eval_env_options")),
    ):
        words += option_words(flag, given) if given else []
    return shlex.join(words)


def _values(results: Results, config: ConfigScores) -> dict[str, Any]:
    """The values of a config as they were given; of population-based training, which changes them, the last ones."""
    configs, method = results.sweep.get("configs"), (results.sweep.get("schedule") or {}).get("method")
    if configs and method != "pbt":
        return dict(configs[config.number])
    return dict(zip(results.fields, config.values, strict=True))
