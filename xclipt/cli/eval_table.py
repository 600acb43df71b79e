"""An evaluation on the terminal."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from xclipt.alignment.routines import TARGET
from xclipt.cli.listing import Listing
from xclipt.evaluation.published import OtherRow, ours_beside
from xclipt.evaluation.results import EnglishOriginals, Evaluation, Gain, RecallRow
from xclipt.metrics import Retrieval
from xclipt.printable import visible
from xclipt.report.interchange import figure_text, gain_text, share_text
from xclipt.translation.store import FROM_EN

_COLOURS = {"better": "green", "worse": "red"}


def table(result: Evaluation) -> Table:
    """A line per language, and below it one per delta; 120 characters hold most."""
    drawn = _table(result, f"ranking {_ranked(result)}")
    for column in ("n", "t2i R@1/5/10", "i2t R@1/5/10", "MRR", "median"):
        drawn.add_column(column, justify="right", no_wrap=True)
    for column in ("mean R@1 [95 %]", "gain [95 %]"):
        drawn.add_column(column, justify="right", no_wrap=True)
    for row in result.rows:
        both = (row.t2i, row.i2t)
        drawn.add_row(
            _name(row),
            str(row.n),
            *(_recalls(one) for one in both),
            " ".join(f"{one.mrr:.3f}" for one in both),
            " ".join(f"{one.median:g}" for one in both),
            escape(_mean(row)),
            _coloured(row.gain) if row.gain else "",
        )
    return drawn


def narrow_table(result: Evaluation) -> Table:
    """The same in 80 characters: two lines each, the second for i2t and the gain."""
    sizes = {row.n for row in result.rows}
    one_size = f"{sizes.pop():,} " if len(sizes) == 1 else ""
    drawn = _table(result, f"ranking {one_size}{_ranked(result)}")
    if not one_size:
        drawn.add_column("n", justify="right", no_wrap=True)
    drawn.add_column("", no_wrap=True)
    drawn.add_column("R@1/5/10", justify="right", no_wrap=True)
    for column in ("MRR", "median", "mean R@1 [95 %]\ngain [95 %]"):
        drawn.add_column(column, justify="right", no_wrap=True)
    for row in result.rows:
        both = (row.t2i, row.i2t)
        drawn.add_row(
            _name(row),
            *([] if one_size else [str(row.n)]),
            "t2i\ni2t",
            "\n".join(map(_recalls, both)),
            "\n".join(f"{one.mrr:.3f}" for one in both),
            "\n".join(f"{one.median:g}" for one in both),
            "\n".join([escape(_mean(row)), *([_coloured(row.gain)] if row.gain else [])]),
        )
    return drawn


def listing(result: Evaluation) -> Listing:
    """What matters most, where names are too long for a column: they have lines of their own."""
    sizes = {row.n for row in result.rows}
    one_size = f"{sizes.pop():,} " if len(sizes) == 1 else ""
    made = Listing(
        f"{result.data}: ranking {one_size}{_ranked(result)}",
        ("language", "system"),
        numbers=(
            *(() if one_size else ("n",)),
            *("t2i R@1/5/10", "i2t R@1/5/10", "mean R@1 [95 %]", "gain [95 %]"),
        ),
    )
    for row in result.rows:
        made.add_row(
            *(row.language, row.system),
            *(() if one_size else (str(row.n),)),
            *(_recalls(row.t2i), _recalls(row.i2t), _mean(row)),
            gain_text(row.gain) if row.gain else "",
        )
    return made


def _table(result: Evaluation, what: str) -> Table:
    drawn = Table(
        title=_plain(f"{result.data}: {what}"),
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    drawn.add_column("language", overflow="fold")
    return drawn


def _ranked(result: Evaluation) -> str:
    return "pictures" if result.mode == "image" else "English captions (text mode)"


def _name(row: RecallRow) -> Padding:
    # What has a prompt of the request stands below the same without, a step further in.
    if row.system == "base":
        return Padding(_plain(row.language), 0)
    below = row.reprompted and bool(row.delta or row.text != TARGET)
    text = row.quoted_prompt if row.reprompted else row.system
    return Padding(_plain(text), (0, 0, 0, 4 if below else 2))


def _plain(text: str) -> str:
    # Spelt out before the columns are measured, and with no markup in it.
    return escape(visible(text))


def _recalls(one: Retrieval) -> str:
    return f"{one.r1:.1f} {one.r5:.1f} {one.r10:.1f}"


def _mean(row: RecallRow) -> str:
    return f"{row.mean_r1:.1f} [{row.ci95[0]:.1f}, {row.ci95[1]:.1f}]"


def compared_table(compared: Sequence[OtherRow], result: Evaluation) -> Listing:
    """Other systems' figures with ours of the same metrics."""
    metrics = list(dict.fromkeys(metric for row in compared for metric in row.figures))
    made = Listing("Beside other systems", ("language", "system"), ("source",), metrics)
    for row in (*ours_beside(result, compared), *compared):
        made.add_row(
            *(row.language, row.system),
            (row.source or "not stated") + ("" if row.stated else "; data and protocol not stated"),
            *(figure_text(m, row.figures[m]) if m in row.figures else "-" for m in metrics),
        )
    return made


def hub_table(result: Evaluation) -> Listing | None:
    """The rows with hub correction; ``None`` where no bank was given."""
    rows = [(row, row.hub_corrected) for row in result.rows if row.hub_corrected]
    if not rows:
        return None
    made = Listing(
        f"{result.data}: with hub correction; i2t stays as it is",
        ("language", "system"),
        numbers=("texts", "t2i R@1/5/10", "mean R@1", "change [95 %]", "N10 skew", "without"),
    )
    for row, corrected in rows:
        made.add_row(
            *(row.language, row.system, f"{corrected.texts:,}", _recalls(corrected.t2i)),
            *(f"{corrected.mean_r1:.1f}", gain_text(corrected.change)),
            *(f"{corrected.skew:.2f}", f"{corrected.plain_skew:.2f}"),
        )
    return made


def summary(result: Evaluation) -> list[str]:
    """What the table does not say, a line each."""
    lines = []
    for name, figures in (("base", result.base), ("deltas", result.deltas)):
        if figures and len(result.languages) > 1:
            gap = "-" if figures.english_gap is None else f"{figures.english_gap:.1f}"
            lines.append(
                f"disparity of mean R@1 over {', '.join(figures.languages)}, {name}: "
                f"sd {figures.sd:.2f}, range {figures.range:.1f}, English gap {gap}, "
                f"worst {figures.worst_language}"
            )
    closed = [row for row in result.rows if row.gap_closed is not None]
    if closed:
        several = len({row.language for row in closed}) < len(closed)
        shares = ", ".join(
            f"{row.language} {f'{row.delta} ' if several else ''}{share_text(row)}"
            for row in closed
        )
        lines.append(f"share of the gap to English that the deltas closed: {shares}")
    lines += map(_english, result.english)
    if result.mean_gain and len(result.mean_gain.languages) > 1:
        lines.append(
            f"mean gain over {len(result.mean_gain.languages)} languages with a delta: "
            f"{gain_text(result.mean_gain.gain)}, {result.mean_gain.gain.verdict}"
        )
    lines += [
        f"{pair.language}: {pair.delta} less {pair.against}: {gain_text(pair.difference)}, "
        f"{pair.difference.verdict}"
        for pair in result.pairs
    ]
    lines += [
        f"{over.language}: {over.delta} over {over.seeds} seeds: mean R@1 {over.mean_r1:.1f}, "
        f"sd {over.sd:.2f}, gain {gain_text(over.gain)}, {over.gain.verdict}"
        for over in result.seeds
    ]
    left_out = {row.language: row.left_out for row in result.rows if row.delta and row.left_out}
    if left_out:
        counts = ", ".join(f"{language} {count}" for language, count in left_out.items())
        lines.append(f"left out, since a delta was trained or validated on them: {counts}")
    if result.english_is_trivial:
        lines.append(
            "in text mode the English captions find themselves: English is the upper bound by "
            "construction, and no measurement"
        )
    if result.mode == "text" and any(row.text == FROM_EN for row in result.rows):
        lines.append(
            "in text mode the from-en queries are translations of the very captions that are ranked"
        )
    if result.unlike_sizes:
        lines.append(
            "the languages are ranked over different numbers of pictures, which makes disparity "
            "larger; --same-pictures measures all on those that they share"
        )
    return lines


def _english(one: EnglishOriginals) -> str:
    low, high = one.ci95
    line = (
        f"English originals of the {one.n:,} pictures ({', '.join(one.languages)}), base: "
        f"mean R@1 {one.mean_r1:.1f} [{low:.1f}, {high:.1f}]"
    )
    if one.ceiling:
        line += (
            f"; with one caption of each {one.ceiling.mean_r1:.1f}, and one finds another of its "
            f"picture in {one.ceiling.text_to_text:.1f} %"
        )
    return line


def _coloured(gain: Gain) -> str:
    text, colour = escape(gain_text(gain)), _COLOURS.get(gain.verdict)
    return f"[{colour}]{text}[/]" if colour else text
