"""Hard prompts from a file."""

from pathlib import Path

from xclipt.data.formats.lines import decode
from xclipt.errors import UsageError, blaming_what_was_named
from xclipt.files import read_regular


def read_prompts(path: Path) -> list[str]:
    """The prompts of a UTF-8 file, one a line; empty lines do not count.

    Raises:
        UsageError: The file cannot be read, is not UTF-8, or has no prompt.
    """
    try:
        data = read_regular(path)
    except OSError as error:
        raise UsageError(
            f"cannot read ({error.strerror})", field="prompt_file", value=path
        ) from None
    with blaming_what_was_named():
        lines = decode(data, path).split("\n")
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise UsageError("holds no prompt; write one a line", field="prompt_file", value=path)
    return prompts
