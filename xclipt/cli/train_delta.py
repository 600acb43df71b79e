"""``xclipt train-delta``."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xclipt.cli.invocation import Invocation, number_or_all
from xclipt.cli.listing import Listing
from xclipt.cli.options import (
    ADVANCED,
    DATA,
    DATASET_HELP,
    DELTA,
    METHOD,
    OPTIMISATION,
    OUTPUT,
    AllowMissing,
    Caption,
    CommonOptions,
    Download,
    Floor,
    Languages,
    ParallelSources,
    SplitSeed,
    TrainingSplit,
    TranslationsOf,
    common_options,
    delta_options,
    reading_options,
    refuse_beside_parallel,
)
from xclipt.cli.terminal import (
    delta_table,
    kept_cell,
    loading_libraries,
    print_json,
    print_table,
    size_cells,
    validation_cells,
)
from xclipt.data.formats.reading import Reading
from xclipt.errors import UsageError

if TYPE_CHECKING:
    from xclipt.artifacts.directory import StoredDelta
    from xclipt.training.plan import DeltaPlan
    from xclipt.training.request import TrainingRequest


_OF_CAPTIONS = (
    *("split", "split_seed", "allow_missing", "caption", "download", "floor", "translations"),
    *("text", "partner_captions", "validation_captions", "contrastive_loss"),
    *("sentence_weight", "pairs"),
)
"""What has no meaning for parallel sentences alone."""


@common_options
@reading_options
@delta_options
def train_delta_command(
    context: typer.Context,
    common: CommonOptions,
    reading: Reading,
    *,
    lang: Languages,
    shots: Annotated[
        str | None,
        typer.Option(
            "--shots",
            help="Pictures to train on, one caption each; or all (50). With --parallel alone: "
            "sentence pairs (all). With both, 0 takes pictures for validation alone.",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            help=f"{DATASET_HELP} Default: emoji; none with --parallel.",
        ),
    ] = None,
    parallel: ParallelSources = None,
    routine: Annotated[
        str,
        typer.Option(
            "--routine",
            help="1: align with the English caption; 2: with its translation into the language; "
            "3: align the caption's translation into English with the English caption; "
            "none: do not align.",
        ),
    ] = "1",
    delta: Annotated[
        str, typer.Option("--delta", help="Kind: lora, adapter, compacter, soft-prompt or bitfit.")
    ] = "lora",
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            help="default; paper: as the paper trains; paper-scripts: as each of its released "
            "shell scripts does. Other options change it.",
        ),
    ] = "default",
    start: Annotated[
        str | None,
        typer.Option(
            "--start",
            help="Weights to begin from. auto: for an aligned lora on builtin those that come with "
            "xclipt; none; opendelta: its own initial values; a delta, LANG or LANG/NAME; or a "
            ".safetensors file.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", help="Name of the delta (default: made from the options)."),
    ] = None,
    joint: Annotated[
        bool,
        typer.Option("--joint", help="Train one delta for all of the languages together."),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print what would be trained; needs no weights, no data."),
    ] = False,
    split: TrainingSplit = None,
    validate_on: Annotated[
        int | None,
        typer.Option(
            "--validate-on",
            help="Validation pictures: at most so many of the split val (300), or held out of a "
            "data set without splits (0). Without pictures: sentence pairs (a tenth, 500 at most).",
            min=0,
            rich_help_panel=DATA,
        ),
    ] = None,
    validation_captions: Annotated[
        str | None,
        typer.Option(
            "--validation-captions",
            help="Of each validation picture: one, the first, or all.",
            rich_help_panel=DATA,
        ),
    ] = None,
    pairs: Annotated[
        str,
        typer.Option(
            "--pairs",
            help="With --parallel and --dataset: so many sentence pairs, or all.",
            rich_help_panel=DATA,
        ),
    ] = "all",
    allow_missing: AllowMissing = False,
    caption: Caption = None,
    download: Download = False,
    floor: Floor = None,
    translations: TranslationsOf = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            help="With --routine none: train on target text (baseline 1), or to-en, its "
            "translation into English (baseline 2).",
            rich_help_panel=METHOD,
        ),
    ] = None,
    align_loss: Annotated[
        str | None,
        typer.Option(
            "--align-loss",
            help="How the text is pulled to its partner: cosine, mse, contrastive or image.",
            rich_help_panel=METHOD,
        ),
    ] = None,
    align_weight: Annotated[
        float | None,
        typer.Option(
            "--align-weight",
            help="Weight of the alignment loss (default: the loss's own; the paper's scripts try "
            "0.003 to 3).",
            rich_help_panel=METHOD,
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            "--teacher",
            help="Tower that embeds the partner: live, with the delta, or frozen, without.",
            rich_help_panel=METHOD,
        ),
    ] = None,
    partner_captions: Annotated[
        str | None,
        typer.Option(
            "--partner-captions",
            help="With a frozen teacher: pull to the mean of all English captions of the picture, "
            "or to one.",
            rich_help_panel=METHOD,
        ),
    ] = None,
    contrastive_loss: Annotated[
        str | None,
        typer.Option(
            "--contrastive-loss",
            help="Of pictures and texts, at the model's own scale: auto is softmax for all; or "
            "sigmoid, where the model has a bias for it (SigLIP).",
            rich_help_panel=METHOD,
        ),
    ] = None,
    settings: dict[str, Any],
    train_layernorm: Annotated[
        bool | None,
        typer.Option(
            "--train-layernorm/--no-train-layernorm",
            help="Train the output LayerNorms too (yes; for soft-prompt and bitfit no).",
            rich_help_panel=DELTA,
        ),
    ] = None,
    tune: Annotated[
        str | None,
        typer.Option("--tune", help="head: train the text head too.", rich_help_panel=DELTA),
    ] = None,
    hard_prompt: Annotated[
        str | None,
        typer.Option(
            "--hard-prompt",
            help="Text before every caption, now and at inference.",
            rich_help_panel=DELTA,
        ),
    ] = None,
    full_finetune: Annotated[
        bool,
        typer.Option(
            "--full-finetune",
            help="Train the whole text tower: the baseline, huge.",
            rich_help_panel=DELTA,
        ),
    ] = False,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", help="Passes over the pairs.", rich_help_panel=OPTIMISATION),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", help="Pairs per step.", rich_help_panel=OPTIMISATION),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate",
            help="Peak of the schedule; the paper's scripts try 1e-6 to 3e-3.",
            rich_help_panel=OPTIMISATION,
        ),
    ] = None,
    head_learning_rate: Annotated[
        float | None,
        typer.Option(
            "--head-learning-rate",
            help="The same for the text head, with --tune head.",
            rich_help_panel=OPTIMISATION,
        ),
    ] = None,
    weight_decay: Annotated[
        float | None,
        typer.Option("--weight-decay", help="Weight decay (0).", min=0, rich_help_panel=ADVANCED),
    ] = None,
    warmup_steps: Annotated[
        int | None,
        typer.Option(
            "--warmup-steps",
            help="Steps over which the learning rate rises (default: a tenth of them all).",
            min=0,
            rich_help_panel=ADVANCED,
        ),
    ] = None,
    last_batch: Annotated[
        str | None,
        typer.Option(
            "--last-batch",
            help="filled: an epoch's last batch takes pairs from its start; or short.",
            rich_help_panel=ADVANCED,
        ),
    ] = None,
    dropout: Annotated[
        float | None,
        typer.Option(
            "--dropout", help="Dropout of the text tower in training (0).", rich_help_panel=ADVANCED
        ),
    ] = None,
    evaluate_every: Annotated[
        int | None,
        typer.Option(
            "--evaluate-every",
            help="Steps between looks at the validation pictures (default: ten looks).",
            min=1,
            rich_help_panel=ADVANCED,
        ),
    ] = None,
    of_equals: Annotated[
        str | None,
        typer.Option(
            "--of-equals",
            help="Which of equally good steps is kept: earliest or latest.",
            rich_help_panel=ADVANCED,
        ),
    ] = None,
    languages_weigh: Annotated[
        str | None,
        typer.Option(
            "--languages-weigh",
            help="With --joint: equal, or halving, from the last language to the first.",
            rich_help_panel=ADVANCED,
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            "--temperature",
            help="With --joint and --parallel: 1 draws languages by their sizes, higher ones more "
            "evenly (2).",
            rich_help_panel=OPTIMISATION,
        ),
    ] = None,
    sentence_weight: Annotated[
        float | None,
        typer.Option(
            "--sentence-weight",
            help="With --parallel and --dataset: weight of the sentences' loss beside that of the "
            "captions (1).",
            rich_help_panel=OPTIMISATION,
        ),
    ] = None,
    split_seed: SplitSeed = 42,
    even_if_worse: Annotated[
        bool,
        typer.Option(
            "--even-if-worse",
            help="Make the delta current even if it does not beat the base on validation.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    log: Annotated[
        Path | None,
        typer.Option(
            "--log",
            help="Add a line of JSON to this file for every step: losses, learning rate, "
            "validation.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    tensorboard: Annotated[
        Path | None,
        typer.Option(
            "--tensorboard",
            help="Write the same for TensorBoard into this folder.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Train even if a delta of this name is there, and replace it.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
) -> None:
    """Teach the frozen backbone a language: train a delta and make it the language's current one.

    A delta that does not beat the base on validation pictures is stored but not made current.

    Example: xclipt train-delta --lang fr --shots 10
    """
    with loading_libraries(common.quiet):
        from xclipt.alignment.build import AlignmentRequest
        from xclipt.alignment.routines import ROUTINES
        from xclipt.data.registry import dataset_name
        from xclipt.deltas.full_finetune import FullSpec
        from xclipt.deltas.kinds import PartialSpec
        from xclipt.training.log import listening
        from xclipt.training.plan import plan
        from xclipt.training.recipe import RECIPES, recipe_with
        from xclipt.training.request import Parallel, TrainingRequest
        from xclipt.training.train import train_delta

    for flag, value, choices in (
        ("--routine", routine, ROUTINES),
        ("--recipe", recipe, RECIPES),
        ("--tune", tune or "head", ("head",)),
    ):
        if value not in choices:
            raise UsageError(f"{flag} {value}: choose {', '.join(choices)}")
    beside = {
        "train_layernorm": train_layernorm,
        "tune_head": True if tune else None,
        "hard_prompt": hard_prompt,
    }
    preset = RECIPES[recipe]
    kind = FullSpec.kind if full_finetune else delta
    given = settings | {name: value for name, value in beside.items() if value is not None}
    spec = PartialSpec(kind, {**preset.settings(kind), **given})
    split = split or preset.split
    changed = recipe_with(
        (preset.sentences if parallel else None) or preset.recipe,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        head_learning_rate=head_learning_rate,
        align_loss=align_loss,
        align_weight=align_weight,
        teacher=teacher,
        contrastive_loss=contrastive_loss,
        partner_captions=partner_captions,
        validation_captions=validation_captions,
        weight_decay=weight_decay,
        warmup_steps=warmup_steps,
        last_batch=last_batch,
        dropout=dropout,
        evaluate_every=evaluate_every,
        of_equals=of_equals,
        languages_weigh=languages_weigh,
        temperature=temperature,
        sentence_weight=sentence_weight,
        dtype=None if common.dtype == "auto" else common.dtype,
        start=start,
    )

    alone = bool(parallel) and dataset is None
    taken: int | None = 0
    if alone:
        refuse_beside_parallel(context, *_OF_CAPTIONS)
        wanted = number_or_all("--shots", shots or "all")
    else:
        if not (parallel and shots == "0"):
            taken = number_or_all("--shots", shots or "50")
        wanted = number_or_all("--pairs", pairs)
    sentences = Parallel(tuple(parallel), wanted, validate_on, reading) if parallel else None

    def request(language: str, *together: str) -> TrainingRequest:
        return TrainingRequest(
            alignment=AlignmentRequest(
                language=language,
                shots=taken,
                routine=ROUTINES[routine],
                text=text,
                seed=common.seed,
                split=None if split == "full" else split,
                split_seed=split_seed,
                allow_missing=allow_missing,
                translator=translations,
                floor=floor,
            ),
            delta=spec,
            recipe=changed,
            name=name,
            validation_pictures=validate_on,
            even_if_worse=even_if_worse,
            force=force,
            joint=(language, *together) if together else (),
            parallel=sentences,
        )

    with Invocation(common, create=True) as run:
        data = None
        if not alone and (lang == "all" or not dry_run):
            data = run.open_data(dataset or "emoji", reading, download=download, caption=caption)
        if lang == "all" and data is None:
            raise UsageError("--lang all: name the languages to take of --parallel")
        every = [code for code in data.languages if code != "en"] if data else []
        languages = run.languages(lang, every)
        if joint and len(languages) < 2:
            raise UsageError("--joint: name several languages, --lang de,fr, or all")
        requests = [request(*languages)] if joint else [*map(request, languages)]
        if dry_run:
            named = None if alone else dataset_name(dataset or "emoji")
            plans = plan(run.backbone_name, requests, named, run.directory_if_there)
            _print_plan(run.backbone_name, plans, requests, common)
            return
        with listening(log, tensorboard) as listener:
            deltas = []
            for one in requests:
                name = one.delta_name(data.name if data else None)
                listen = listener(f"{one.language}/{name}")
                deltas.append(train_delta(run.workspace, data, one, listen))
    if common.json:
        print_json({"command": "train-delta", "deltas": [_as_json(delta) for delta in deltas]})
    else:
        print_table(_table(deltas))


def _print_plan(
    backbone: str,
    plans: "Sequence[DeltaPlan]",
    requests: "Sequence[TrainingRequest]",
    common: CommonOptions,
) -> None:
    if common.json:
        entries = [
            {
                "language": entry.language,
                "languages": [*request.languages],
                "name": entry.name,
                "kind": entry.kind,
                "path": str(common.root / "deltas" / entry.language / entry.name),
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
    table = delta_table(
        f"Would be trained on {backbone}",
        ("lang", "delta"),
        ("parameters", "share", "size", "steps"),
    )
    for entry in plans:
        table.add_row(
            entry.language,
            entry.name,
            *size_cells(entry.trainable_parameters, entry.percent, entry.bytes),
            "-" if entry.steps is None else str(entry.steps),
        )
    print_table(table)


def _as_json(delta: "StoredDelta") -> dict[str, Any]:
    manifest = delta.manifest
    return {
        "language": manifest.language,
        "languages": [*manifest.taught],
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
        "chosen_step": manifest.validation.get("step"),
        "kept_start": manifest.kept_start,
        "current": delta.current,
    }


def _table(deltas: "Sequence[StoredDelta]") -> Listing:
    table = delta_table(
        "Trained deltas, their kept steps, and mean R@1 on validation",
        ("lang", "delta"),
        ("parameters", "share", "size", "kept", "base", "delta"),
    )
    for delta in deltas:
        manifest = delta.manifest
        table.add_row(
            manifest.language,
            manifest.name,
            *size_cells(manifest.weights.parameters, manifest.percent, manifest.weights.bytes),
            kept_cell(manifest),
            *validation_cells(manifest.validation),
        )
    return table
