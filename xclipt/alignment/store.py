"""Alignment sets in the artifact directory: a manifest to read, and one line a pair.

::

    alignments/LANG/NAME/manifest.yaml       what it is; written last
    alignments/LANG/NAME/pairs-HASH.jsonl    {"image", "text", "partner"} in training order
"""

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

import xclipt
from xclipt.alignment.routines import TO_EN
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.artifacts.manifest import MANIFEST
from xclipt.data.pairs import CaptionPair, pairs_sha256
from xclipt.documents import parse_json, read_yaml
from xclipt.files import delete, read_regular, write_text

if TYPE_CHECKING:
    from xclipt.alignment.build import AlignmentSet
    from xclipt.alignment.similarity import PairSimilarity

FORMAT = 1
_REMEDY = "delete the folder, train-delta and align write it again"


def alignment_name(alignment: "AlignmentSet") -> str:
    """``multi30k-train-routine2-50shot-seed1``: what tells sets of one language apart."""
    request = alignment.request
    parts = [
        re.sub(r"[^A-Za-z0-9._-]+", "-", alignment.dataset).strip("-.") or "data",
        *([alignment.split] if alignment.split else []),
        f"routine{request.routine}" if request.routine else "unaligned",
        *([TO_EN] if request.routine is None and request.inference == TO_EN else []),
        f"{request.shots}shot" if request.shots else "full",
        f"seed{request.seed}",
        *([f"caption{alignment.caption}"] if alignment.caption else []),
        *([f"floor{request.floor:g}"] if request.floor is not None else []),
    ]
    return "-".join(parts)[-100:].lstrip("._-")


def store_alignment(
    directory: ArtifactDirectory, alignment: "AlignmentSet", similarity: "PairSimilarity"
) -> Path:
    """Write an alignment set, replacing one of the same name; returns its folder.

    Raises:
        XcliptError: The folder cannot be written to.
    """
    request = alignment.request
    folder = directory.alignment_folder(request.language, alignment_name(alignment))
    pairs = folder / f"pairs-{alignment.sha256[:12]}.jsonl"
    write_text(
        pairs,
        "".join(json.dumps(asdict(pair), ensure_ascii=False) + "\n" for pair in alignment.pairs),
    )
    plain = {
        "format": FORMAT,
        "language": request.language,
        "name": folder.name,
        "routine": request.routine,
        "text": request.inference,
        "dataset": alignment.dataset,
        "split": alignment.split,
        "caption": alignment.caption,
        "shots": request.shots,
        "seed": request.seed,
        "floor": request.floor,
        "translator": asdict(alignment.translator) if alignment.translator else None,
        "pairs": {
            "file": pairs.name,
            "count": len(alignment.pairs),
            "pictures": len({pair.image for pair in alignment.pairs}),
            "sha256": alignment.sha256,
        },
        "left_out": alignment.left_out.counts(),
        "backbone": directory.backbone.plain(),
        "gap": similarity.as_json(),
        "xclipt": xclipt.__version__,
    }
    write_text(
        folder / MANIFEST,
        yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100),
    )
    for old in folder.glob("pairs-*.jsonl"):
        if old != pairs:
            delete(old)
    return folder


def check_alignment(folder: Path) -> str:
    """What is wrong with a stored alignment set; empty where it is well."""
    try:
        plain = read_yaml(folder / MANIFEST)
        recorded = plain["pairs"]
        lines = read_regular(folder / Path(recorded["file"]).name).decode().split("\n")
        pairs = tuple(CaptionPair(**parse_json(line)) for line in lines if line)
        whole = pairs_sha256(pairs) == recorded["sha256"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"cannot be read ({str(error).splitlines()[0]}); {_REMEDY}"
    return "" if whole else f"its pairs are not those that were written; {_REMEDY}"
