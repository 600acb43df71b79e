"""``xclipt train-delta``."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from xclipt.cli.delta_cells import size_cells, validation_cells
from xclipt.cli.options import (
    AllowMissing,
    CommonOptions,
    DatasetName,
    Download,
    Floor,
    Languages,
    TrainingSplit,
    TranslationsOf,
    common_options,
)
from xclipt.cli.session import Session, number_or_all
from xclipt.cli.terminal import print_json, print_table
from xclipt.errors import XcliptError

if TYPE_CHECKING:
    from xclipt.training.train import TrainingRequest


@common_options
def train_delta_command(
    common: CommonOptions,
    lang: Languages,
    shots: Annotated[
        str, typer.Option("--shots", help="Pictures to train on, one caption each; or all.")
    ] = "50",
    dataset: DatasetName = "emoji",
    routine: Annotated[
        str,
        typer.Option(
            "--routine",
            help="1: align with the English caption; 2: with its translation into the language; "
            "3: align the caption's translation into English with the English caption; "
            "none: do not align.",
        ),
    ] = "1",
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            help="With --routine none: train on target text (baseline 1), or to-en, its "
            "translation into English (baseline 2).",
        ),
    ] = None,
    translations: TranslationsOf = None,
    floor: Floor = None,
    delta: Annotated[
        str, typer.Option("--delta", help="Kind: lora, adapter, compacter or soft-prompt.")
    ] = "lora",
    rank: Annotated[
        int | None, typer.Option("--rank", help="lora: rank of the updates (8, or as the start's).")
    ] = None,
    alpha: Annotated[
        int | None, typer.Option("--alpha", help="lora: their scale (16, or as the start's).")
    ] = None,
    modules: Annotated[
        str | None,
        typer.Option(
            "--modules",
            help="lora: what is updated, query-value or all-linear (query-value, or as the "
            "start's); the latter with --rank 2 is about as large.",
        ),
    ] = None,
    bottleneck: Annotated[
        int | None, typer.Option("--bottleneck", help="adapter: width of the hidden layer (24).")
    ] = None,
    reduction: Annotated[
        int | None, typer.Option("--reduction", help="compacter: width / bottleneck (16).")
    ] = None,
    tokens: Annotated[
        int | None, typer.Option("--tokens", help="soft-prompt: trained vectors (4).")
    ] = None,
    prompt_init: Annotated[
        str | None,
        typer.Option("--prompt-init", help="soft-prompt: text to start from; random without."),
    ] = None,
    pool_prompt: Annotated[
        bool | None,
        typer.Option(
            "--pool-prompt/--no-pool-prompt",
            help="soft-prompt: whether the mean over the text counts the vectors (yes).",
        ),
    ] = None,
    train_layernorm: Annotated[
        bool | None,
        typer.Option(
            "--train-layernorm/--no-train-layernorm",
            help="Train the output LayerNorms too (yes; for soft-prompt no).",
        ),
    ] = None,
    hard_prompt: Annotated[
        str | None,
        typer.Option("--hard-prompt", help="Text before every caption, now and at inference."),
    ] = None,
    tune: Annotated[
        str | None, typer.Option("--tune", help="head: train the text head too.")
    ] = None,
    full_finetune: Annotated[
        bool,
        typer.Option("--full-finetune", help="Train the whole text tower: the baseline, huge."),
    ] = False,
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe", help="default, or paper: as the paper's code; options below change it."
        ),
    ] = "default",
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the pairs.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Pairs a step.")] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate", help="Peak of the schedule; the paper tried 5e-5, 1e-4, 2e-4."
        ),
    ] = None,
    head_learning_rate: Annotated[
        float | None, typer.Option("--head-learning-rate", help="The same, of --tune head.")
    ] = None,
    align_loss: Annotated[
        str | None, typer.Option("--align-loss", help="mse, cosine, contrastive or image.")
    ] = None,
    align_weight: Annotated[
        float | None,
        typer.Option(
            "--align-weight",
            help="Weight of the alignment loss, instead of its own; the paper tried 0.003 to 0.3.",
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            "--teacher", help="Partner features with the delta (live) or without (frozen)."
        ),
    ] = None,
    partner_captions: Annotated[
        str | None,
        typer.Option(
            "--partner-captions",
            help="all: the partner is the mean of the picture's English captions, where the "
            "teacher is frozen; one: a single one.",
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--start",
            help="What the delta starts from: auto, for an aligned lora on builtin the start that "
            "comes with xclipt; none; a delta, LANG or LANG/NAME; or a FILE that "
            "'python -m xclipt.training.train_start' wrote.",
        ),
    ] = None,
    split: TrainingSplit = "full",
    validate_on: Annotated[
        int | None,
        typer.Option(
            "--validate-on",
            help="Validation pictures: at most so many of the split val (300), or held out of a "
            "data set without splits (0).",
            min=0,
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="The delta's name; made from the options.")
    ] = None,
    even_if_worse: Annotated[
        bool,
        typer.Option(
            "--even-if-worse",
            help="Make it current even where it does not beat the base on validation.",
        ),
    ] = False,
    allow_missing: AllowMissing = False,
    download: Download = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print what would be trained; needs no weights, no data."),
    ] = False,
) -> None:
    """Teach the frozen backbone a language: train a delta and make it the language's current one.

    A delta that does not beat the base on validation pictures is stored but not made current.

    Example: xclipt train-delta --lang fr --shots 10
    """
    from xclipt.alignment.routines import ROUTINES
    from xclipt.deltas.spec import FullSpec, LoraSpec, spec_for
    from xclipt.training.recipe import RECIPES, recipe_with
    from xclipt.training.start import lora_like_start
    from xclipt.training.train import TrainingRequest, train_delta

    if routine not in ROUTINES:
        raise XcliptError(f"--routine {routine}: choose {', '.join(ROUTINES)}")
    if recipe not in RECIPES:
        raise XcliptError(f"--recipe {recipe}: choose {', '.join(RECIPES)}")
    if tune not in (None, "head"):
        raise XcliptError(f"--tune {tune}: can only be head")
    settings = recipe_with(
        RECIPES[recipe],
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        head_learning_rate=head_learning_rate,
        align_loss=align_loss,
        align_weight=align_weight,
        teacher=teacher,
        partner_captions=partner_captions,
        start=start,
    )
    beside: dict[str, Any] = {"tune_head": True if tune else None, "hard_prompt": hard_prompt}
    spec = spec_for(
        FullSpec.kind if full_finetune else delta,
        rank=rank,
        alpha=alpha,
        modules=modules,
        bottleneck=bottleneck,
        reduction=reduction,
        tokens=tokens,
        prompt_init=prompt_init,
        pool_prompt=pool_prompt,
        train_layernorm=train_layernorm,
        **beside,
    )
    request = TrainingRequest(
        language="",
        shots=number_or_all("--shots", shots),
        routine=ROUTINES[routine],
        seed=common.seed,
        spec=spec,
        recipe=settings,
        name=name,
        split=None if split == "full" else split,
        validation_pictures=validate_on,
        allow_missing=allow_missing,
        even_if_worse=even_if_worse,
        text=text,
        translator=translations,
        floor=floor,
    )
    structure = (rank, alpha, modules, train_layernorm)
    with Session(common, create=True) as session:
        if isinstance(spec, LoraSpec) and structure == (None, None, None, None):
            like = lora_like_start(
                session.directory_if_there, session.backbone_name, settings.start, request.routine
            )
            given = {setting: value for setting, value in beside.items() if value is not None}
            request = replace(request, spec=replace(like, **given))
        if dry_run and lang != "all":
            languages = session.languages(lang, [])
        else:
            data = session.open_data(dataset, download=download)
            trainable = [language for language in data.languages if language != "en"]
            languages = session.languages(lang, trainable)
        requests = [replace(request, language=language) for language in languages]
        if dry_run:
            _print_plan(session.backbone_name, requests, common)
            return
        deltas = [train_delta(session.workspace, data, request) for request in requests]
    if common.json:
        print_json({"command": "train-delta", "deltas": [_as_json(delta) for delta in deltas]})
    else:
        print_table(_table(deltas))


def _print_plan(
    backbone: str, requests: Sequence["TrainingRequest"], common: CommonOptions
) -> None:
    from xclipt.training.plan import plan

    plans = plan(backbone, requests)
    if common.json:
        entries = [
            {
                "language": entry.language,
                "name": entry.name,
                "kind": entry.kind,
                "path": str(common.artifacts / "deltas" / entry.language / entry.name),
                "trainable_parameters": entry.trainable_parameters,
                "backbone_parameters": entry.backbone_parameters,
                "percent": entry.percent,
                "bytes": entry.bytes,
                "tensor_bytes": entry.tensor_bytes,
                "steps": entry.steps,
                "seconds": None,
                "validation": {},
                "setting": entry.setting,
                "recipe": asdict(request.recipe),
            }
            for entry, request in zip(plans, requests, strict=True)
        ]
        print_json(
            {"command": "train-delta", "dry_run": True, "backbone": backbone, "deltas": entries}
        )
        return
    table = Table(title=f"Would be trained on {backbone}", title_justify="left")
    for column in ("language", "delta"):
        table.add_column(column)
    for column in ("parameters", "share", "size", "steps"):
        table.add_column(column, justify="right")
    for entry in plans:
        table.add_row(
            entry.language,
            entry.name,
            *size_cells(entry.trainable_parameters, entry.percent, entry.bytes),
            "-" if entry.steps is None else str(entry.steps),
        )
    print_table(table)


def _as_json(delta: Any) -> dict[str, Any]:
    manifest = delta.manifest
    return {
        "language": manifest.language,
        "name": manifest.name,
        "kind": manifest.kind,
        "path": str(delta.folder),
        "trainable_parameters": manifest.weights.parameters,
        "backbone_parameters": manifest.backbone_parameters,
        "percent": manifest.percent,
        "bytes": manifest.weights.bytes,
        "steps": manifest.steps,
        "seconds": manifest.seconds,
        "validation": manifest.validation,
        "current": delta.current,
    }


def _table(deltas: list[Any]) -> Table:
    table = Table(title="Trained deltas", title_justify="left")
    for column in ("language", "delta"):
        table.add_column(column)
    for column in ("parameters", "share", "size", "steps", "seconds", "val R@1 base", "delta"):
        table.add_column(column, justify="right")
    for delta in deltas:
        manifest = delta.manifest
        table.add_row(
            manifest.language,
            manifest.name,
            *size_cells(manifest.weights.parameters, manifest.percent, manifest.weights.bytes),
            str(manifest.steps),
            f"{manifest.seconds:.0f}",
            *validation_cells(manifest.validation),
        )
    return table
