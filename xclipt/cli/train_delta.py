"""``xclipt train-delta``."""

from typing import Annotated, Any

import typer
from rich.table import Table

from xclipt.cli.options import CommonOptions, common_options
from xclipt.cli.session import Session, number_or_all
from xclipt.cli.terminal import print_json, print_table, size
from xclipt.errors import XcliptError


@common_options
def train_delta_command(
    common: CommonOptions,
    lang: Annotated[str, typer.Option("--lang", help="Language code, a comma list, or all.")],
    shots: Annotated[
        str, typer.Option("--shots", help="Pictures to train on, one caption each; or all.")
    ] = "50",
    dataset: Annotated[
        str, typer.Option("--dataset", help="emoji, multi30k, xtd, a folder, CSV/TSV, owner/name.")
    ] = "emoji",
    routine: Annotated[
        str,
        typer.Option("--routine", help="1: align with the English caption; none: do not align."),
    ] = "1",
    rank: Annotated[int, typer.Option("--rank", help="Rank of the LoRA updates.")] = 8,
    alpha: Annotated[int, typer.Option("--alpha", help="Scale of the LoRA updates.")] = 16,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the pairs.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Pairs a step.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help="Peak of the cosine schedule.")
    ] = None,
    align_loss: Annotated[
        str | None, typer.Option("--align-loss", help="mse, cosine, contrastive or image.")
    ] = None,
    align_weight: Annotated[
        float | None, typer.Option("--align-weight", help="Weight of the alignment loss.")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            "--teacher", help="Partner features with the delta (live) or without (frozen)."
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="Split to train on; train where there is one.")
    ] = None,
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
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Go on with the pictures that are there.")
    ] = False,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch the data set if it is not there.")
    ] = False,
) -> None:
    """Teach the frozen backbone a language: train a delta and make it the language's current one.

    Example: xclipt train-delta --lang fr --shots 10
    """
    from xclipt.deltas.spec import LoraSpec
    from xclipt.training.recipe import recipe_with
    from xclipt.training.train import ROUTINES, TrainingRequest, train_delta

    if routine not in ROUTINES:
        raise XcliptError(f"--routine {routine}: choose {', '.join(ROUTINES)}")
    recipe = recipe_with(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        align_loss=align_loss,
        align_weight=align_weight,
        teacher=teacher,
    )
    spec = LoraSpec(rank=rank, alpha=alpha)
    amount = number_or_all("--shots", shots)
    with Session(common, create=True) as session:
        data = session.open_data(dataset, download=download)
        trainable = [language for language in data.languages if language != "en"]
        requests = [
            TrainingRequest(
                language=language,
                shots=amount,
                routine=ROUTINES[routine],
                seed=common.seed,
                spec=spec,
                recipe=recipe,
                name=name,
                split=split,
                validation_pictures=validate_on,
                allow_missing=allow_missing,
            )
            for language in session.languages(lang, trainable)
        ]
        deltas = [train_delta(session.workspace, data, request) for request in requests]
    if common.json:
        print_json({"command": "train-delta", "deltas": [_as_json(delta) for delta in deltas]})
    else:
        print_table(_table(deltas))


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
    }


def _table(deltas: list[Any]) -> Table:
    table = Table(title="Trained deltas", title_justify="left")
    for column in ("language", "delta"):
        table.add_column(column)
    for column in ("parameters", "share", "size", "steps", "seconds", "val R@1 base", "delta"):
        table.add_column(column, justify="right")
    for delta in deltas:
        manifest = delta.manifest
        validation = manifest.validation
        measured = "mean_R@1" in validation
        table.add_row(
            manifest.language,
            manifest.name,
            f"{manifest.weights.parameters:,}",
            f"{manifest.percent:.3f} %",
            size(manifest.weights.bytes),
            str(manifest.steps),
            f"{manifest.seconds:.0f}",
            f"{validation['base_mean_R@1']:.1f}" if measured else "-",
            f"{validation['mean_R@1']:.1f}" if measured else "-",
        )
    return table
