"""``xclipt verify``, ``xclipt use`` and ``xclipt remove``."""

import sys
from typing import Annotated

import typer

from xclipt.cli import completion
from xclipt.cli.invocation import Invocation
from xclipt.cli.options import CommonOptions, common_options_but
from xclipt.cli.terminal import print_json, print_line
from xclipt.cli.wording import worded
from xclipt.errors import UsageError, XcliptError
from xclipt.printable import visible

Language = Annotated[
    str, typer.Argument(metavar="LANG", autocompletion=completion.languages, help="Language code.")
]
Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        autocompletion=completion.deltas,
        help="Name of the delta; `xclipt status` lists them.",
    ),
]


@common_options_but("backbone", "data_dir", "seed")
def verify_command(
    common: CommonOptions,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Load the backbone too and measure its fingerprint anew."),
    ] = False,
    accept_edits: Annotated[
        bool,
        typer.Option(
            "--accept", help="Take edited manifests and translations as they are from now on."
        ),
    ] = False,
) -> None:
    """Check that everything in the artifact directory is what was written.

    Nothing is changed but by --accept. The exit code is 1 when something is wrong.

    Example: xclipt verify --artifacts xclipt-artifacts
    """
    from xclipt.artifacts.directory import MARK
    from xclipt.verify import Finding, accept, verify

    with Invocation(common) as run:
        directory = run.existing
        accepted = accept(directory) if accept_edits else []
        findings = verify(directory)
        if deep:
            measured = run.workspace.backbone.measure_fingerprint()
            if measured != directory.backbone.fingerprint:
                problem = (
                    f"the backbone's fingerprint is {measured[:12]}, it was "
                    f"{directory.backbone.fingerprint[:12]}; its weights have changed"
                )
                findings.insert(0, Finding(MARK, problem))
    wrong = sum(bool(finding.problem) for finding in findings)
    if common.json:
        print_json(
            {
                "command": "verify",
                "artifacts": str(directory.root),
                "accepted": accepted,
                "problems": wrong,
                "findings": [vars(finding) for finding in findings],
            }
        )
    else:
        for path in accepted:
            print_line(f"accepted as it is: {path}")
        for finding in findings:
            if finding.problem:
                print_line(f"  {finding.path}: {worded(finding.problem)}", red="wrong")
            elif finding.unfinished:
                print_line(f"unfinished {finding.path}: {worded(finding.unfinished)}")
            else:
                print_line(f"well   {finding.path}")
        print_line(f"{wrong or 'no'} {'problem' if wrong == 1 else 'problems'}")
    if wrong:
        raise typer.Exit(1)


@common_options_but("backbone", "data_dir", "device", "dtype", "seed")
def use_command(common: CommonOptions, language: Language, name: Name) -> None:
    """Choose which of a language's deltas is used, for instance an older one.

    Example: xclipt use fr lora-10shot-seed1
    """
    with Invocation(common) as run:
        directory = run.existing
        directory.sweep()
        code = run.home(directory, run.language(language))
        directory.delta(code, name).checked()  # a damaged one is refused
        before = directory.current_name(code)
        directory.set_current(code, name)
    if common.json:
        print_json({"command": "use", "language": code, "name": name, "previous": before})
        return
    print_line(f"{code}: {name} is current" + (f", before it {before}" if before else ""))


@common_options_but("backbone", "data_dir", "device", "dtype", "seed")
def remove_command(
    common: CommonOptions,
    language: Language,
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a delta and the features that were computed with it.

    A current delta is only deleted when its language has no other; choose another one first with
    xclipt use.

    Example: xclipt remove fr lora-10shot-seed1 --yes
    """
    with Invocation(common) as run:
        directory = run.existing
        directory.sweep()
        code = run.home(directory, run.language(language))
    folder = directory.removal(code, name)
    if not yes:
        _confirm(f"Delete {folder}?")
    directory.remove(code, name)
    if common.json:
        print_json({"command": "remove", "language": code, "name": name, "path": str(folder)})
        return
    print_line(f"{code}: {name} is deleted")


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError(f"{question} Nobody is there to answer; add --yes")
    if not typer.confirm(visible(question), err=True):
        raise XcliptError("nothing was deleted")
