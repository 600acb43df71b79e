"""Files of public model repositories: from the hub's cache, else from the hub."""

from collections.abc import Sequence
from pathlib import Path

from xclipt.errors import XcliptError


def fetch(
    repo: str,
    names: Sequence[str | tuple[str, ...]],
    optional: Sequence[str] = (),
    option: str = "--backbone",
) -> Path:
    """The folder of one revision of ``repo`` that holds the files.

    What is in the cache is not fetched again, and ``HF_HUB_OFFLINE`` is obeyed.

    Args:
        repo: ``owner/name``.
        names: Files that must be there; of a tuple the first that the repository has.
        optional: Files that are taken along where the repository has them.
        option: The option of the command line that would take a folder instead.

    Raises:
        XcliptError: A file cannot be had. Says which, and where a copy may lie.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    def get(name: str) -> Path | None:
        try:
            return Path(hf_hub_download(repo, name))
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError:
            return None

    def refused(name: str, why: str) -> XcliptError:
        return XcliptError(
            f"{repo}: no {name} ({why}); run `hf download {repo}` where there is a network and "
            f"copy its cache to {constants.HF_HUB_CACHE} (HF_HOME moves it), or name a folder "
            f"that holds a copy: {option} FOLDER"
        )

    folder = None
    for choice in names:
        choices = (choice,) if isinstance(choice, str) else choice
        why = "the repository has none"
        found = None
        for name in choices:
            try:
                found = get(name)
            except LocalEntryNotFoundError:
                why = "not in the cache, and the hub cannot be reached"
            except Exception as error:  # whatever the network, the hub or the disk came up with
                why = str(error).strip().split("\n", 1)[0] or type(error).__name__
            if found:
                break
        if found is None:
            raise refused(" or ".join(choices), why)
        folder = found.parent
    assert folder is not None
    for name in optional:
        try:
            get(name)
        except Exception:
            continue
    return folder
