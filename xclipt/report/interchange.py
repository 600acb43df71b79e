"""An evaluation in the formats of tables and of other benchmarks.

Which fields correspond:

========================= ============================== ====================================
ours                      CLIP_benchmark                 MTEB
========================= ============================== ====================================
``dataset``               ``dataset``                    ``task_name``: dataset, direction
``split``                 (none)                         the key in ``scores``
``language`` (``fr``)     ``language``                   ``hf_subset``; ``languages``: fra-Latn
``backbone.id``           ``model``                      the folder's name
``delta`` or base         ``pretrained``                 the folder's name
t2i R@k / 100             ``image_retrieval_recall@k``   ``hit_rate_at_k`` of the T2I task
i2t R@k / 100             ``text_retrieval_recall@k``    ``hit_rate_at_k`` of the I2T task
t2i, i2t MRR, median      (none)                         ``mrr``, ``median_rank`` (ours: uncut)
R@1 / 100                 (none)                         ``main_score``
intervals, gains          (none)                         (none)
========================= ============================== ====================================

R@k is any match among the first k in both. CLIP_benchmark breaks ties by position, we count them
against the model. Text mode has no counterpart in either: its ``task`` is ``text_to_english``, so
that nobody takes it for image retrieval.
"""

import csv
import io
import json
import re

import xclipt
from xclipt.evaluation.results import Evaluation, Gain, RecallRow
from xclipt.files import content_hash
from xclipt.metrics import Retrieval
from xclipt.printable import spreadsheet_cell

_RECALLS = (1, 5, 10)


def as_csv(evaluation: Evaluation) -> str:
    """One line a row, every metric a column; recalls in per cent.

    Text that a spreadsheet would take for a formula has an apostrophe before it, as OWASP advises.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    about = (
        *("dataset", "split", "mode", "language", "system"),
        *("delta", "text", "prompt", "protocol", "n"),
    )
    figures = tuple(evaluation.rows[0].figures())
    writer.writerow(
        [
            *(*about, *figures, "ci95 low", "ci95 high", "gain", "gain low", "gain high"),
            *("gap closed", "gap closed low", "gap closed high", *_HUB_COLUMNS),
        ]
    )
    for row in evaluation.rows:
        numbers = [
            *(*row.figures().values(), *row.ci95, *_gain_numbers(row.gain)),
            *(row.gap_closed, *(row.gap_closed_ci95 or (None, None)), *_hub_numbers(row)),
        ]
        writer.writerow(
            [
                *map(
                    spreadsheet_cell, (evaluation.dataset, evaluation.split or "", evaluation.mode)
                ),
                *map(spreadsheet_cell, (row.language, row.system, row.delta or "", row.text)),
                *map(spreadsheet_cell, (row.prompt, row.protocol)),
                row.n,
                *("" if number is None else f"{number:.4f}" for number in numbers),
            ]
        )
    return text.getvalue()


_HUB_COLUMNS = (
    *("hub texts", "hub t2i R@1", "hub t2i R@5", "hub t2i R@10", "hub t2i MRR"),
    *("hub t2i median_rank", "hub mean R@1", "hub ci95 low", "hub ci95 high"),
    *("hub change", "hub change low", "hub change high", "hub N10 skew", "plain N10 skew"),
)


def _gain_numbers(gain: Gain | None) -> tuple[float | None, ...]:
    return (gain.mean_r1, *gain.ci95) if gain else (None,) * 3


def _hub_numbers(row: RecallRow) -> tuple[float | None, ...]:
    hub = row.hub_corrected
    if hub is None:
        return (None,) * len(_HUB_COLUMNS)
    figures = (*hub.t2i.as_json().values(), hub.mean_r1, *hub.ci95)
    return (hub.texts, *figures, *_gain_numbers(hub.change), hub.skew, hub.plain_skew)


def as_markdown(evaluation: Evaluation) -> str:
    """The rows and the disparity as Markdown tables, with what they were measured on."""
    split = f", split `{evaluation.split}`" if evaluation.split else ""
    split += f", caption {evaluation.caption}" if evaluation.caption else ""
    what = "pictures" if evaluation.mode == "image" else "English captions (text mode)"
    lines = [
        f"**{evaluation.dataset}**{split}, ranking {what}; backbone `{evaluation.backbone.id}` "
        f"`{evaluation.backbone.fingerprint[:12]}`. Recalls in per cent, 95 % bootstrap intervals.",
        "",
        "| language | delta | n | t2i R@1 | R@5 | R@10 | i2t R@1 | R@5 | R@10 "
        "| mean R@1 | gain | verdict |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for row in evaluation.rows:
        recalls = [
            f"{value:.1f}" for way in (row.t2i, row.i2t) for value in (way.r1, way.r5, way.r10)
        ]
        cells = [
            *(row.language, _markdown_name(row), str(row.n), *recalls),
            f"{row.mean_r1:.1f} [{row.ci95[0]:.1f}, {row.ci95[1]:.1f}]",
            *((gain_text(row.gain), row.gain.verdict) if row.gain else ("", "")),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "| disparity of mean R@1 | sd | range | English gap | worst |",
        "|---|--:|--:|--:|---|",
    ]
    for name, figures in (("base", evaluation.base), ("deltas", evaluation.deltas)):
        if figures:
            gap = "-" if figures.english_gap is None else f"{figures.english_gap:.1f}"
            lines.append(
                f"| {name} | {figures.sd:.2f} | {figures.range:.1f} | {gap} "
                f"| {figures.worst_language} |"
            )
    return "\n".join(lines) + "\n"


def _markdown_name(row: RecallRow) -> str:
    return "-" if row.system == "base" else row.system.replace("|", r"\|")


def gain_text(gain: Gain) -> str:
    """``+2.3 [+0.4, +4.1]``."""
    low, high = gain.ci95
    return f"{gain.mean_r1:+z.1f} [{low:+z.1f}, {high:+z.1f}]"  # z: no minus before 0.0


def share_text(row: RecallRow) -> str:
    """How much of its gap to English a delta closed: ``42 % [30, 55]``, or ``-``."""
    if row.gap_closed is None:
        return "-"
    if row.gap_closed_ci95 is None:
        return f"{row.gap_closed:.0f} % (no clear gap)"
    low, high = row.gap_closed_ci95
    return f"{row.gap_closed:.0f} % [{low:.0f}, {high:.0f}]"


def figure_text(metric: str, value: float) -> str:
    """``0.312`` for an MRR, which is below 1, else ``31.2``."""
    return f"{value:.3f}" if metric.endswith("MRR") else f"{value:.1f}"


def as_clip_benchmark(evaluation: Evaluation) -> dict[str, str]:
    """Result files of CLIP_benchmark, one per row, by file name.

    ``clip_benchmark build FOLDER`` makes its one table of them.
    """
    return {
        f"{_slug(evaluation.dataset)}_{_folder(evaluation, row)}_{row.language}.json":
        json.dumps(
            {
                "dataset": evaluation.dataset,
                "model": evaluation.backbone.id,
                "pretrained": row.system,
                "task": "zeroshot_retrieval" if evaluation.mode == "image" else "text_to_english",
                "metrics": {
                    f"{name}_retrieval_recall@{k}": recall
                    for name, retrieval in (("image", row.t2i), ("text", row.i2t))
                    for k, recall in _recalls(retrieval).items()
                },
                "language": row.language,
            },
            indent=2,
        )
        for row in evaluation.rows
    }  # fmt: skip


def as_mteb(evaluation: Evaluation) -> dict[str, str]:
    """Task results of MTEB by path: ``MODEL/REVISION/TASK.json``, as in its results folder.

    ``mteb.TaskResult.from_disk`` reads them. The base and each name of deltas are models of their
    own; each direction is a task, as in MTEB. The task names are ours, not MTEB's: nothing here
    claims to be one of its official runs.
    """
    documents: dict[str, str] = {}
    folders = list(dict.fromkeys(_folder(evaluation, row) for row in evaluation.rows))
    for folder in folders:
        rows = [row for row in evaluation.rows if _folder(evaluation, row) == folder]
        for way in ("T2I", "I2T"):
            task = f"Xclipt{_camel(evaluation.dataset)}{way}Retrieval"
            if evaluation.mode == "text":
                task = f"Xclipt{_camel(evaluation.dataset)}{way.replace('I', 'E')}TextRetrieval"
            path = f"{folder}/{evaluation.backbone.fingerprint[:12]}/{task}.json"
            documents[path] = json.dumps(
                {
                    "dataset_revision": evaluation.split or "all",
                    "task_name": task,
                    "mteb_version": None,
                    "scores": {
                        evaluation.split or "test": [
                            _mteb_scores(row, row.t2i if way == "T2I" else row.i2t) for row in rows
                        ]
                    },
                    "evaluation_time": None,
                    "kg_co2_emissions": None,
                    "xclipt_version": xclipt.__version__,
                },
                indent=2,
            )
    return documents


def _mteb_scores(row: RecallRow, retrieval: Retrieval) -> dict[str, object]:
    return {
        "hf_subset": row.language,
        "languages": [_language_and_script(row.language)],
        "main_score": retrieval.r1 / 100,
        **{f"hit_rate_at_{k}": recall for k, recall in _recalls(retrieval).items()},
        "mrr": retrieval.mrr,
        "median_rank": retrieval.median,
    }


def _recalls(retrieval: Retrieval) -> dict[int, float]:
    values = (retrieval.r1, retrieval.r5, retrieval.r10)
    return {k: value / 100 for k, value in zip(_RECALLS, values, strict=True)}


def _folder(evaluation: Evaluation, row: RecallRow) -> str:
    name = _slug(f"{evaluation.backbone.id}__{row.system}")
    # Prompts that differ in what a file's name cannot hold must not meet in one file.
    return f"{name}-{content_hash(row.prompt.encode())[:8]}" if row.reprompted else name


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "data"


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in re.split(r"[^A-Za-z0-9]+", name))


def _language_and_script(code: str) -> str:
    from langcodes import Language

    language = Language.get(code).maximize()
    # MTEB writes Korean as Hang, which langcodes subsumes in Kore.
    script = {"Kore": "Hang"}.get(language.script or "", language.script)
    return f"{language.to_alpha3()}-{script}"
