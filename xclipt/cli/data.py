"""``xclipt data``."""

from typing import TYPE_CHECKING, Annotated

import typer

from xclipt.cli import completion
from xclipt.cli.invocation import Invocation
from xclipt.cli.listing import Listing
from xclipt.cli.options import CommonOptions, common_options_but, reading_options
from xclipt.cli.terminal import print_json, print_line, print_table
from xclipt.data.formats.reading import Reading

if TYPE_CHECKING:
    from xclipt.data.survey import PictureSurvey, Survey, TooLong


@common_options_but("image_tower", "device", "dtype", "seed")
@reading_options
def data_command(
    common: CommonOptions,
    reading: Reading,
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATASET",
            autocompletion=completion.datasets,
            help="A folder or file of captions, or any other data set that --dataset takes.",
        ),
    ],
) -> None:
    """Look at a data set before training: what is in it, what is missing or broken, examples.

    Captions that are too long are those that the text tower of --backbone cuts (default: builtin).

    Example: xclipt data my-pictures/captions.csv --caption-lang tr
    """
    with Invocation(common, create=None) as run:
        from xclipt.data.survey import survey

        data = run.open_data(dataset, reading)
        found = survey(data, run.progress, _too_long(run, common))
    if common.json:
        print_json({"command": "data", **found.as_json(), "remarks": data.notes})
        return
    print_table(_table(found))
    for line in _lines(found):
        print_line(line)


def _too_long(run: Invocation, common: CommonOptions) -> "TooLong | None":
    from xclipt.backbones import builtin
    from xclipt.backbones.registry import load_caption_tokenizer

    name = common.backbone or run.backbone_name
    if name != builtin.NAME and not common.backbone:
        run.progress.note(f"captions that {name} would cut are counted with --backbone {name}")
        return None
    tokenizer, room = load_caption_tokenizer(name)
    return lambda texts: tokenizer.longer(texts, room)


def _table(found: "Survey") -> Listing:
    columns = ("pictures", "with en", "captions", "repeated", "too long")
    title = f"{found.dataset}: {found.pictures.named:,} pictures"
    table = Listing(title, ("language",), numbers=columns)
    for row in found.languages:
        cut = "-" if row.too_long is None else f"{row.too_long:,}"
        counts = (row.pictures, row.with_english, row.captions, row.repeated)
        table.add_row(row.language, *(f"{count:,}" for count in counts), cut)
    return table


def _lines(found: "Survey") -> list[str]:
    splits = ", ".join(f"{split} {count:,}" for split, count in found.splits.items())
    first, *more = _pictures(found.pictures)
    pictures = [f"pictures  {first}", *(f"          {line}" for line in more)]
    lines = ["", f"splits    {splits or 'none'}", *pictures]
    for number, example in enumerate(found.examples):
        lines += ["" if number else "examples", f"  {example.image}"]
        lines[-1] += "" if example.path else " (no file)"
        lines += [f"    {language:4}{text}" for language, text in example.captions.items()]
    return lines


def _pictures(pictures: "PictureSurvey") -> list[str]:
    said = [f"{pictures.usable:,} of {pictures.named:,} can be used, in {pictures.folder}"]
    if pictures.missing:
        first = ", ".join(pictures.missing[:3])
        said.append(f"{len(pictures.missing):,} missing ({first})")
    if pictures.broken:
        first = "; ".join(f"{one.path.name}: {one.reason}" for one in pictures.broken[:3])
        said.append(f"{len(pictures.broken):,} broken ({first})")
    if pictures.copies:
        across = f", {pictures.across:,} of them across splits" if pictures.across else ""
        are = "is a copy of another" if pictures.copies == 1 else "are copies of others"
        said.append(f"{pictures.copies:,} {are}, byte for byte{across}")
    return said
