"""``--config FILE.yaml``: any option of a command by its name."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from xclipt.errors import XcliptError


def read_config(path: Path, known: Mapping[str, str]) -> dict[str, str]:
    """Options from a YAML file, by parameter name, as text for the command line to parse.

    Args:
        path: The file; a mapping of option names, written with ``-`` or ``_``, to values. A list
            stands for its items with commas between them.
        known: Every option's parameter name by its own name with ``_``.

    Raises:
        XcliptError: The file is not a mapping, or names an option that the command does not have.
    """
    try:
        # Everything as text: YAML's own ideas would make the language `no` a false, and 1e-3 a
        # string.
        plain = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except OSError as error:
        raise XcliptError(f"--config {path}: cannot read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise XcliptError(f"--config {path}: not YAML ({str(error).splitlines()[0]})") from None
    if not plain:
        return {}
    if not isinstance(plain, dict):
        raise XcliptError(f"--config {path}: must be a mapping of options to values")
    options = {}
    for key, value in plain.items():
        name = str(key).replace("-", "_")
        if name not in known:
            raise XcliptError(
                f"--config {path}: unknown option '{key}'; this command has "
                f"{', '.join(sorted(known))}"
            )
        if isinstance(value, dict):
            raise XcliptError(f"--config {path}: '{key}' must be one value or a list")
        text = ",".join(value) if isinstance(value, list) else value
        if text not in ("", "null", "~"):
            options[known[name]] = text
    return options
