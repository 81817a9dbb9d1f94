"""The files of `masc compare`: one table as text, Markdown, CSV and JSON, and a plot."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from masc.compiler.analysis.decoding import words_of
from masc.compiler.files.writing import atomic_write
from masc.studies.comparison import Result
from masc.studies.comparison_lines import Line, merged
from masc.studies.comparison_plot import Drawn, figure_of, plot
from masc.studies.comparison_runs import BASELINE, ROWS
from masc.terminal.finite import finite

COLUMNS = (
    "row",
    "accuracy",
    "95% interval",
    "against fine-tuned single",
    "could show",
    "FLOPs a row",
    "positions a row",
    "gold ppl",
    "decoded ppl",
    "agreement",
    "tokens decoded",
    "latent steps",
    "seconds",
    "trained parameters",
)


class Lines(list[Line]):
    """The table, which a notebook shows with its plot. title, drawn: of the plot."""

    def __init__(self, lines: Sequence[Line] = (), title: str = "", drawn: Drawn = "accuracy") -> None:
        super().__init__(lines)
        self.title = title
        self.drawn = drawn

    def _repr_html_(self) -> str:
        from masc.backends.notebook import paragraphs, svg, table

        drawn = svg(figure_of(self, self.title, self.drawn)) if self else ""
        return drawn + table(list(map(cells, merged(self))), COLUMNS) + paragraphs(notes(self))


def lines_of(results: Sequence[Result]) -> list[Line]:
    """The table, in the order of the results."""
    from masc.backends.torch.evaluation.statistics import detectable, paired_bootstrap, wilson

    groups: dict[tuple[str, tuple[tuple[str, str], ...]], list[Result]] = {}
    for result in results:
        groups.setdefault((result.row, tuple(result.values.items())), []).append(result)
    found = []
    for (row, values), group in groups.items():
        right = _by_item(group)
        accuracy = sum(right) / len(right)
        against: tuple[float, float, float] | None = None
        shown: float | None = None
        if row != BASELINE and (other := groups.get((BASELINE, values))) is not None:
            theirs = _by_item(other)
            low, high = paired_bootstrap(right, theirs)
            against = (accuracy - sum(theirs) / len(theirs), low, high)
            shown = detectable(right, theirs)
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
                group[0].flops,
                group[0].each,
                group[0].voters,
                shown,
            )
        )
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

    counts = [f"{n:,} {what}" for n, what in ((line.voters, "answers"), (line.seeds, "seeds")) if n > 1]
    more = f" ({', '.join(counts)})" if counts else ""
    against = "-"
    if line.against is not None:
        middle, low, high = (f"{100 * value:+.1f}" for value in line.against)
        against = f"{middle} ({low} to {high})" if math.isfinite(line.against[1]) else middle  # too few rows
    return [
        line.label + more,
        f"{line.accuracy:.1%}",
        f"{line.interval[0]:.1%} to {line.interval[1]:.1%}",
        against,
        "-" if line.detectable is None or not math.isfinite(line.detectable) else f"{100 * line.detectable:.1f}",
        "-" if line.flops is None else f"{line.flops:.3g}",
        "-" if line.positions is None else f"{line.positions:,}",
        number(line.gold_perplexity),
        number(line.decoded_perplexity),
        "-" if line.agreement is None else f"{line.agreement:.2f}",
        f"{line.tokens_decoded:,.0f}",
        f"{line.latent_steps:,.0f}",
        f"{line.seconds:.1f}",
        f"{line.parameters:,}",
    ]


def notes(lines: Sequence[Line]) -> list[str]:
    """How answers were decoded, and what a difference must be to be seen."""
    return [*_decoding(lines), *_power(lines)]


def _power(lines: Sequence[Line]) -> list[str]:
    known = [line.detectable for line in lines if line.detectable is not None and math.isfinite(line.detectable)]
    if not known:
        return []
    low, high = (f"{100 * one:.1f}" for one in (min(known), max(known)))
    span = low if low == high else f"{low} to {high}"
    return [
        "Power: four times in five these rows and seeds would have shown (at the 5% level) a difference to the "
        f"fine-tuned single agent of {span} points (`could show`); that a smaller one is not seen says nothing"
    ]


def _decoding(lines: Sequence[Line]) -> list[str]:
    """In all rows alike, or in each group of rows that decodes in another way."""
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
    writer.writerow([*head, "parameters", "flops", "positions", "voters", "detectable"])
    for line in lines:
        values = dict(line.values)
        numbers: list[float | int | None] = [line.seeds, line.accuracy, *line.interval]
        numbers += list(line.against or (None, None, None))
        numbers += [line.gold_perplexity, line.decoded_perplexity, line.agreement]
        numbers += [line.tokens_decoded, line.latent_steps, line.seconds, line.parameters]
        numbers += [line.flops, line.positions, line.voters, line.detectable]
        known = (None if number is None or not math.isfinite(number) else number for number in numbers)
        writer.writerow([line.row, *(values.get(name, "") for name in swept), *known])
    return file.getvalue()


def write_report(
    lines: Sequence[Line], out: Path, title: str, about: Mapping[str, Any], against: Drawn = "accuracy"
) -> list[Path]:
    """Write `table.md`, `table.csv`, `table.json`, `plot.svg` and `plot.png`; returns their paths. about: where the
    numbers come from; against: what is drawn."""
    out.mkdir(parents=True, exist_ok=True)
    found = {
        "lines": [{**asdict(line), "values": dict(line.values), "decoding": dict(line.decoding)} for line in lines]
    }
    atomic_write(out / "table.md", markdown_table(lines))
    atomic_write(out / "table.csv", csv_table(lines))
    atomic_write(out / "table.json", json.dumps(finite({**found, "run": about}), indent=1, ensure_ascii=False) + "\n")
    plots = [out / "plot.svg", out / "plot.png"]
    plot(lines, plots, title, against)
    return [out / "table.md", out / "table.csv", out / "table.json", *plots]
