"""Files of published models: from a folder, the hub's cache or the hub, and what is in them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xclipt import documents
from xclipt.errors import XcliptError

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
"""``owner/name``."""

_INDEX = ".index.json"
WEIGHTS = (
    *("model.safetensors", f"model.safetensors{_INDEX}"),
    *("pytorch_model.bin", f"pytorch_model.bin{_INDEX}"),
)
"""The names of a checkpoint's weights, in the order in which they are looked for. An index tells
which of several files, the shards, holds which tensor."""

TOKENIZER = ("tokenizer.json", "spiece.model", "sentencepiece.bpe.model", "vocab.txt")
"""The files that a tokenizer is read from, one of which a model has."""

TOKENIZER_BESIDE = (
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("spiece.model", "vocab.json", "merges.txt"),
)
"""What may lie beside it."""


def fetch(
    repo: str,
    names: Sequence[str | tuple[str, ...]],
    optional: Sequence[str] = (),
    field: str = "backbone",
) -> Path:
    """The folder of one revision of ``repo`` that holds the files.

    What is in the cache is not fetched again, and ``HF_HUB_OFFLINE`` is obeyed.

    Args:
        repo: ``owner/name``.
        names: Files that must be there; of a tuple the first that the repository has.
        optional: Files that are taken along where the repository has them.
        field: The setting that would take a folder instead.

    Raises:
        XcliptError: A file cannot be had. Says which, and where a copy may lie.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    cut_off = False

    def get(name: str) -> Path | None:
        nonlocal cut_off
        try:
            return Path(hf_hub_download(repo, name, local_files_only=cut_off))
        except LocalEntryNotFoundError:
            cut_off = True  # it has been tried for long enough
            raise
        except EntryNotFoundError:
            return None

    def refused(name: str, why: str) -> XcliptError:
        return XcliptError(
            f"{repo}: no {name} ({why}); run `hf download {repo}` where there is a network and "
            f"copy its cache to {constants.HF_HUB_CACHE} (HF_HOME moves it), or name a folder "
            f"that holds a copy: `{field}=FOLDER`"
        )

    folder = None
    shards: list[str] = []
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
        folder = found.parents[name.count("/")]
        if name.endswith(_INDEX):
            shards += [f"{name.rpartition('/')[0]}/{shard}".lstrip("/") for shard in _shards(found)]
    assert folder is not None
    if shards:
        fetch(repo, shards, field=field)
    for name in optional:
        try:
            get(name)
        except Exception:
            continue
    return folder


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` of a model's folder.

    Raises:
        XcliptError: It is missing or is not a JSON object.
    """
    return read_json(folder / "config.json", "; copy the model's folder again")


def _shards(index: Path) -> list[str]:
    """Names of the files that an index tells of.

    Raises:
        XcliptError: It is no index, or names a file that is not beside it.
    """
    places = read_json(index, "; copy it again").get("weight_map")
    if not isinstance(places, dict) or not places:
        raise XcliptError(f"{index}: has no weight_map; copy it again")
    names = sorted({str(name) for name in places.values()})
    for name in names:
        if Path(name).name != name:
            raise XcliptError(f"{index}: '{name}' is no file beside it")
    return names


def read_json(path: Path, remedy: str = "") -> dict[str, Any]:
    """A JSON object; ``remedy`` ends the message about a file that is none.

    Raises:
        XcliptError: It cannot be read, or is not one.
    """
    plain = read_any_json(path)
    if not isinstance(plain, dict):
        raise XcliptError(f"{path}: not a JSON object{remedy}")
    return plain


def read_any_json(path: Path) -> Any:
    """Whatever a JSON file holds; ``None`` where it is no JSON.

    Raises:
        XcliptError: It cannot be read.
    """
    try:
        return documents.read_json(path)
    except OSError as error:
        raise XcliptError(f"{path}: cannot read ({error.strerror})") from None
    except ValueError:
        return None


def read_weights(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """The tensors of a safetensors file, of a ``pytorch_model.bin``, or of an index's shards.

    Args:
        prefix: What the names of those that are wanted begin with.

    Raises:
        XcliptError: It is damaged, or holds anything but tensors, or a shard is not there.
    """
    if path.name.endswith(_INDEX):
        shards = (read_weights(shard, prefix) for shard in _beside(path))
        return {name: tensor for shard in shards for name, tensor in shard.items()}
    state = _read_weights(path, prefix)
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise XcliptError(f"{path}: not a mapping of names to tensors")
    return {name: tensor for name, tensor in state.items() if name.startswith(prefix)}


def _read_weights(path: Path, prefix: str) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
                return {name: file.get_tensor(name) for name in names}
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # the format before PyTorch 1.6 cannot be mapped into memory
            return torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, EOFError, ValueError, RuntimeError) as error:
        raise XcliptError(f"{path}: damaged weights ({first_line(error)}); copy it again") from None
    except Exception:
        # weights_only refuses whatever would run code, and does not always tell that from garbage.
        raise XcliptError(
            f"{path}: is damaged or holds more than tensors; copy it again, or save it as "
            "safetensors"
        ) from None


def weight_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of a file, by name; of a safetensors file its header alone is read.

    Raises:
        XcliptError: As :func:`read_weights`.
    """
    from safetensors import SafetensorError, safe_open

    if path.suffix != ".safetensors":
        return {name: tuple(tensor.shape) for name, tensor in read_weights(path).items()}
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            return {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except (SafetensorError, OSError) as error:
        raise XcliptError(f"{path}: damaged weights ({first_line(error)}); copy it again") from None


def from_pretrained(
    kind: Any, folder: Path, what: str, *, unread: str | None = None, **options: Any
) -> Any:
    """A model of transformers in float32, with every weight from the folder.

    Args:
        kind: Its class.
        folder: The checkpoint: a file or shards, safetensors or pickles, which are read as weights
            alone.
        what: The model, for messages.
        unread: What the names of weights begin with that nobody reads: the module is left out
            where they are not there.
        options: For ``from_pretrained``.

    Raises:
        XcliptError: It cannot be loaded, or weights are missing or misshapen.
    """
    try:
        model, report = kind.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below
            **options,
        )
    except Exception as error:  # transformers' are as many as the ways to damage a file
        raise XcliptError(f"{folder}: cannot load {what} ({first_line(error)})") from None
    missing = set(report["missing_keys"])
    if unread and any(name.startswith(unread) for name in missing):
        setattr(model, unread.rstrip("."), None)
        missing = {name for name in missing if not name.startswith(unread)}
    mismatched = sorted([*missing, *(key[0] for key in report["mismatched_keys"])])
    if mismatched:
        raise XcliptError(
            f"{folder}: {len(mismatched)} of the weights of {what} are missing or misshapen, first "
            f"{mismatched[0]}"
        )
    return model


def load_tokenizer(folder: Path, rows: int, config: Path) -> Any:
    """The tokenizer in ``folder``, refused if it is not the one of an embedding matrix.

    A ``tokenizer.json`` is taken as it stands: the classes of transformers build theirs anew from
    its vocabulary. Without one, and for SigLIP's ``spiece.model``, it is what ``AutoTokenizer``
    makes of the files.

    Args:
        rows: Rows of the tower's word embeddings.
        config: The file that says so, for the message.

    Raises:
        XcliptError: There is none, or its vocabulary does not fit the matrix.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    there = [folder / name for name in TOKENIZER if (folder / name).is_file()]
    path = there[0] if there else folder / TOKENIZER[0]
    if not there:
        raise XcliptError(f"{path}: not there; put the backbone's tokenizer beside its weights")
    as_it_stands = path.name == TOKENIZER[0] and not (folder / "spiece.model").is_file()
    kind: Any = PreTrainedTokenizerFast if as_it_stands else AutoTokenizer
    try:
        tokenizer = kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise XcliptError(f"{path}: cannot read the tokenizer ({first_line(error)})") from None
    words = len(tokenizer)
    # Matrices are padded, to a multiple of 64 at the most; more than that is another vocabulary.
    if not rows - 64 < words <= rows:
        raise XcliptError(
            f"{path}: {words:,} tokens do not fit the {rows:,} word embeddings that {config} "
            "describes; this is another model's tokenizer"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def tokenizer_files(folder: Path) -> tuple[Path, ...]:
    """All that a tokenizer in ``folder`` may have been read from."""
    names = dict.fromkeys([*TOKENIZER, *TOKENIZER_BESIDE])
    return tuple(folder / name for name in names if (folder / name).is_file())


def weights_file(folder: Path, names: Sequence[str] = WEIGHTS) -> Path:
    """The file of weights in a checkpoint's folder, or the index of several.

    Raises:
        XcliptError: There is none.
    """
    for name in names:
        if (folder / name).is_file():
            return folder / name
    single = " or ".join(name for name in names if not name.endswith(_INDEX))
    shards = ", or shards and their index" if names is WEIGHTS else ""
    raise XcliptError(f"{folder}: no weights ({single}{shards}); put them there")


def weights_files(folder: Path, names: Sequence[str] = WEIGHTS) -> tuple[Path, ...]:
    """The files that hold the weights of a checkpoint's folder.

    Raises:
        XcliptError: There are none, or one that the index names is not there.
    """
    path = weights_file(folder, names)
    return _beside(path) if path.name.endswith(_INDEX) else (path,)


def _beside(index: Path) -> tuple[Path, ...]:
    shards = tuple(index.with_name(name) for name in _shards(index))
    for shard in shards:
        if not shard.is_file():
            raise XcliptError(f"{shard}: not there, and {index.name} names it; copy it again")
    return shards


def first_line(error: BaseException) -> str:
    """What an error of another library says, in one line."""
    return str(error).strip().split("\n", 1)[0] or type(error).__name__
