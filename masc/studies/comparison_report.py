"""The files of `masc compare`: one table as text, Markdown, CSV and JSON, and a plot."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from masc.compiler.analysis.decoding import words_of
from masc.compiler.files.writing import atomic_write
from masc.studies.comparison import Result
from masc.studies.comparison_runs import BASELINE, ROWS
from masc.terminal.finite import finite

COLUMNS = (
    "row",
    "accuracy",
    "95% interval",
    "against fine-tuned single",
    "gold ppl",
    "decoded ppl",
    "agreement",
    "tokens decoded",
    "latent steps",
    "seconds",
    "trained parameters",
)


@dataclass(frozen=True)
class Line:
    """One line of the table: a row at one value of the sweep, as the mean over its seeds. Accuracies are shares (0 to
    1), perplexities are per token (None: not finite), seconds are those of decoding and scoring all test rows.

    title      the row's title
    seeds      the number of runs in the mean; one if nothing depends on the seed
    interval   Wilson's 95% interval; n is the number of test rows, whatever the number of seeds
    against    the difference to the fine-tuned single agent, with its 95% interval (paired bootstrap over items; NaN if
               there are too few). None: this is that row, or that row was not run
    decoding   how each output, and each agent that speaks to others, is decoded
    """

    row: str
    title: str
    values: tuple[tuple[str, str], ...]
    seeds: int
    accuracy: float
    interval: tuple[float, float]
    against: tuple[float, float, float] | None
    gold_perplexity: float | None
    decoded_perplexity: float | None
    agreement: float | None
    tokens_decoded: float
    latent_steps: float
    seconds: float
    parameters: int
    decoding: tuple[tuple[str, str], ...] = ()

    @property
    def label(self) -> str:
        return ", ".join([self.title, *(f"{name} = {value}" for name, value in self.values)])


def lines_of(results: Sequence[Result]) -> list[Line]:
    """The table, in the order of the results."""
    from masc.backends.torch.evaluation.statistics import paired_bootstrap, wilson

    groups: dict[tuple[str, tuple[tuple[str, str], ...]], list[Result]] = {}
    for result in results:
        groups.setdefault((result.row, tuple(result.values.items())), []).append(result)
    found = []
    for (row, values), group in groups.items():
        right = _by_item(group)
        accuracy = sum(right) / len(right)
        against: tuple[float, float, float] | None = None
        if row != BASELINE and (other := groups.get((BASELINE, values))) is not None:
            theirs = _by_item(other)
            low, high = paired_bootstrap(right, theirs)
            against = (accuracy - sum(theirs) / len(theirs), low, high)
        found.append(
            Line(
                row,
                group[0].label,
                values,
                len({result.folder for result in group}),
                accuracy,
                wilson(sum(right), len(right)),
                against,
                _mean([r.report["gold_perplexity"] for r in group]),
                _mean([r.report["decoded_perplexity"] for r in group]),
                _mean([r.agreement for r in group]),
                _mean([r.report["tokens_decoded"] for r in group]) or 0.0,
                _mean([r.report["latent_steps"] for r in group]) or 0.0,
                _mean([r.report["seconds"] for r in group]) or 0.0,
                group[0].parameters,
                tuple((name, words_of(known)) for name, known in group[0].report.get("decoding", {}).items()),
            )
        )
    return found


def merged(lines: Sequence[Line]) -> list[Line]:
    """The lines; a row that is the same at every value of a sweep gets one line."""
    found: list[Line] = []
    for row in dict.fromkeys(line.row for line in lines):
        own = [line for line in lines if line.row == row]
        bare = {replace(line, values=()) for line in own}
        found += bare if len(own) > 1 and len(bare) == 1 else own
    return found


def _by_item(group: Sequence[Result]) -> list[float]:
    """For each test row the share of seeds that answered it right."""
    return [sum(item) / len(group) for item in zip(*(result.right for result in group), strict=True)]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return sum(known) / len(known) if len(known) == len(values) and known else None


def cells(line: Line) -> list[str]:
    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.4g}"

    against = "-"
    if line.against is not None:
        middle, low, high = (f"{100 * value:+.1f}" for value in line.against)
        against = f"{middle} ({low} to {high})" if math.isfinite(line.against[1]) else middle  # too few rows
    return [
        line.label + (f" ({line.seeds} seeds)" if line.seeds > 1 else ""),
        f"{line.accuracy:.1%}",
        f"{line.interval[0]:.1%} to {line.interval[1]:.1%}",
        against,
        number(line.gold_perplexity),
        number(line.decoded_perplexity),
        "-" if line.agreement is None else f"{line.agreement:.2f}",
        f"{line.tokens_decoded:,.0f}",
        f"{line.latent_steps:,.0f}",
        f"{line.seconds:.1f}",
        f"{line.parameters:,}",
    ]


def notes(lines: Sequence[Line]) -> list[str]:
    """How answers were decoded: in all rows alike, or in each group of rows that decodes in another way."""
    found: dict[str, list[str]] = {}
    for line in lines:
        if line.decoding:
            titles = found.setdefault("; ".join(f"{name}: {words}" for name, words in line.decoding), [])
            titles += [line.title] if line.title not in titles else []
    rest = [how for how, titles in found.items() if titles != [ROWS["text"][0]]]
    shown = []
    for how, titles in found.items():
        whose = ", ".join(titles) if how not in rest or len(rest) > 1 or len(found) == 1 else "all others"
        shown.append(f"Decoding, {'all rows' if len(found) == 1 else whose}: {how}")
    return shown


def text_table(lines: Sequence[Line]) -> str:
    """Aligned columns for a terminal, and below them how answers were decoded."""
    rows = [list(COLUMNS), *map(cells, merged(lines))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    shown = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*shown, *(["", *found] if (found := notes(lines)) else [])])


def markdown_table(lines: Sequence[Line]) -> str:
    rows = [list(COLUMNS), ["---", *["---:"] * (len(COLUMNS) - 1)], *map(cells, merged(lines))]
    shown = "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in rows)
    return shown + "".join(f"\n{note}\n" for note in notes(lines))


def csv_table(lines: Sequence[Line]) -> str:
    """Unrounded numbers, one line for each row and value of a sweep. Accuracies are shares; unknown values are
    empty."""
    swept = list(dict.fromkeys(name for line in lines for name, _ in line.values))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    head = ["row", *swept, "seeds", "accuracy", "low", "high", "against", "against_low", "against_high"]
    head += ["gold_perplexity", "decoded_perplexity", "agreement", "tokens_decoded", "latent_steps", "seconds"]
    writer.writerow([*head, "parameters"])
    for line in lines:
        values = dict(line.values)
        numbers: list[float | int | None] = [line.seeds, line.accuracy, *line.interval]
        numbers += list(line.against or (None, None, None))
        numbers += [line.gold_perplexity, line.decoded_perplexity, line.agreement]
        numbers += [line.tokens_decoded, line.latent_steps, line.seconds, line.parameters]
        known = (None if number is None or not math.isfinite(number) else number for number in numbers)
        writer.writerow([line.row, *(values.get(name, "") for name in swept), *known])
    return file.getvalue()


def write_report(lines: Sequence[Line], out: Path, title: str, about: Mapping[str, Any]) -> list[Path]:
    """Write `table.md`, `table.csv`, `table.json`, `plot.svg` and `plot.png`; returns their paths. about: where the
    numbers come from."""
    out.mkdir(parents=True, exist_ok=True)
    found = {
        "lines": [{**asdict(line), "values": dict(line.values), "decoding": dict(line.decoding)} for line in lines]
    }
    atomic_write(out / "table.md", markdown_table(lines))
    atomic_write(out / "table.csv", csv_table(lines))
    atomic_write(out / "table.json", json.dumps(finite({**found, "run": about}), indent=1, ensure_ascii=False) + "\n")
    plots = [out / "plot.svg", out / "plot.png"]
    plot(lines, plots, title)
    return [out / "table.md", out / "table.csv", out / "table.json", *plots]


def plot(lines: Sequence[Line], paths: Sequence[Path], title: str) -> None:
    """Plot accuracies with their intervals: as bars, or as one curve for each row if one number was swept."""
    from matplotlib.figure import Figure  # not pyplot: no display, no state

    swept = list(dict.fromkeys(name for line in lines for name, _ in line.values))
    curve = len(swept) == 1 and all(_is_number(value) for line in lines for _, value in line.values)
    lines = lines if curve else merged(lines)
    figure = Figure(figsize=(8, 4.5) if curve else (8, 0.9 + 0.5 * len(lines)), layout="constrained")
    axes = figure.add_subplot()
    if curve:
        for row in dict.fromkeys(line.row for line in lines):
            points = ((float(line.values[0][1]), line) for line in lines if line.row == row)
            group = sorted(points, key=lambda point: point[0])
            x, y = [at for at, _ in group], [100 * line.accuracy for _, line in group]
            axes.plot(x, y, marker="o", label=next(line.title for _, line in group))
            low, high = ([100 * line.interval[end] for _, line in group] for end in (0, 1))
            axes.fill_between(x, low, high, alpha=0.12)
        axes.set(xlabel=swept[0], ylabel="accuracy, %", ylim=(-3, 103), title=title)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize="small")
    else:
        places = list(range(len(lines)))[::-1]
        y = [100 * line.accuracy for line in lines]
        below = [max(0.0, v - 100 * line.interval[0]) for v, line in zip(y, lines, strict=True)]
        above = [max(0.0, 100 * line.interval[1] - v) for v, line in zip(y, lines, strict=True)]
        colors = ["#c44e52" if line.row == "team" else "#4c72b0" if ROWS[line.row][1] else "#a0a8b4" for line in lines]
        axes.barh(places, y, xerr=[below, above], color=colors, height=0.65, capsize=3, ecolor="#333333")
        axes.set_yticks(places, [line.label for line in lines])
        axes.set(xlabel="accuracy on the test rows, % (bars: 95% interval)", xlim=(0, 105), title=title)
    axes.spines[["top", "right"]].set_visible(False)
    for path in paths:
        temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
        figure.savefig(
            temporary, format=path.suffix[1:], dpi=150, metadata={"Date": None} if path.suffix == ".svg" else {}
        )
        temporary.replace(path)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
