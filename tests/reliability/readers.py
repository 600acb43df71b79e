"""Every reader of files, given what is no such file: one line that names it, or it is read."""

import copy
import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pyarrow as pa
import torch
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

from tests.factories.datasets import caption_row, write_captions
from tests.factories.deltas import store_shaken
from tests.factories.evaluations import evaluation, row
from tests.factories.exports import CAPTIONS
from tests.factories.models import load, write_mclip_backbone
from xclipt.alignment.store import check_alignment
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.artifacts.feature_rows import read_chunk
from xclipt.artifacts.features import FeatureStore
from xclipt.backbones.identity import BackboneIdentity
from xclipt.backbones.registry import blueprint
from xclipt.data.pairs import CaptionPair, pairs_sha256
from xclipt.data.registry import open_dataset
from xclipt.deltas.lora import LoraSpec
from xclipt.embedding.described import Description, Digest, Work
from xclipt.embedding.files import FILES, file_kind
from xclipt.errors import XcliptError
from xclipt.evaluation.prompts import read_prompts
from xclipt.evaluation.published import read_compared
from xclipt.export.formats import export_delta
from xclipt.export.importing import import_delta
from xclipt.hubness import read_bank
from xclipt.parallel.sources import ParallelRequest
from xclipt.parallel.store import store_pairs
from xclipt.progress import Silent
from xclipt.search.answer import read_queries
from xclipt.search.faiss_file import (
    PictureFeatures,
    build_index,
    open_index_file,
    write_index_file,
)
from xclipt.search.stored import StoredIndex, check_index, write_index
from xclipt.translation.engines.file import from_file
from xclipt.translation.store import (
    Translation,
    TranslationStore,
    Translator,
    damaged_lines,
    stores,
)
from xclipt.verify import verify

ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**400, 1e30, -0.0, float("nan"), float("inf"), "", " ", "1e30", "\0"),
    *("é", "\x1b[2J", "../../x", "/", "x" * 5000, [], {}, [[]], [None], {"": None}, ["a", 1]),
    *({"a": {"a": {"a": {}}}}, json.loads("[" * 200 + "]" * 200)),
)
"""Values that somebody might put where another stands."""


@dataclass(frozen=True)
class Reader:
    """What reads a file.

    Attributes:
        file: The file, within :class:`Files`' folder.
        read: Reads it.
    """

    file: str
    read: Callable[[Path], object]


def _captions(path: Path) -> object:
    dataset = open_dataset(path, caption_lang=None)
    return [dataset.captions(language, None) for language in dataset.languages]


def _bare_captions(path: Path) -> object:
    dataset = open_dataset(path, caption_lang="fr")
    return dataset.captions("fr", None)


def _folder_of(read: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda path: read(path.parent)


def _sentences(path: Path) -> object:
    directory = ArtifactDirectory.open(path.parents[1] / "artifacts")
    pairs = store_pairs(directory, ParallelRequest((str(path),), "fr"), Silent())
    found = list(pairs)
    shutil.rmtree(directory.root / "parallel")
    return found


def _imported(path: Path) -> object:
    directory = ArtifactDirectory.open(path.parents[2] / "artifacts")
    imported = import_delta(directory, path.parent, language="fr", name="back")
    imported.delta.tensors()
    directory.remove("fr", "back")
    return imported


def _current(path: Path) -> object:
    return ArtifactDirectory.open(path.parents[2]).current("fr")


def _directory(path: Path) -> object:
    root = next(parent for parent in path.parents if parent.name == "artifacts")
    return verify(ArtifactDirectory.open(root))


def _translations(path: Path) -> object:
    root = next(parent for parent in path.parents if parent.name == "artifacts")
    return [len(found) for found in stores(ArtifactDirectory.open(root), "fr", "en")]


def _embedding(path: Path) -> object:
    if path.suffix == ".json":
        path = path.with_suffix("")
    file = file_kind(path, "features")(path)
    file.require_sound()
    return PictureFeatures.of_file(path).rows(np.arange(2))


def _index(path: Path) -> object:
    return open_index_file(path.parent / "a.faiss", _IDENTITY).search(np.ones((1, 4), "f4"), 2)


_IDENTITY = BackboneIdentity("x", "1", "f" * 64)

READERS: dict[str, Reader] = {
    "config.json of a backbone": Reader(
        "backbone/config.json", lambda path: load(path.parent).encode_texts(CAPTIONS[:1])
    ),
    "config.json of a backbone that is described": Reader(
        "backbone/config.json", lambda path: blueprint(str(path.parent))
    ),
    "config.json of an image tower": Reader(
        "backbone/image/config.json", lambda path: load(path.parents[1])
    ),
    "tokenizer.json": Reader("backbone/tokenizer.json", lambda path: load(path.parent)),
    "weights of a backbone": Reader(
        "backbone/image/model.safetensors", lambda path: load(path.parents[1])
    ),
    "pickled weights of a backbone": Reader(
        "backbone/pytorch_model.bin", lambda path: load(path.parent)
    ),
    "mark": Reader("artifacts/xclipt.yaml", _directory),
    "current": Reader("artifacts/deltas/fr/current", _current),
    "manifest": Reader("artifacts/deltas/fr/shaken/manifest.yaml", _directory),
    "weights of a delta": Reader("artifacts/deltas/fr/shaken/delta.safetensors", _directory),
    "features": Reader(
        "artifacts/features/x/0.safetensors", lambda path: FeatureStore(path.parent, 4).damaged
    ),
    "features of sentences": Reader("artifacts/features/x/000000-0.npy", read_chunk),
    "index": Reader("artifacts/indexes/x.safetensors", check_index),
    "translations": Reader("artifacts/translations/fr-en/T/0.jsonl", damaged_lines),
    "translator": Reader("artifacts/translations/fr-en/T/translator.yaml", _translations),
    "alignment": Reader("artifacts/alignments/fr/x/manifest.yaml", _folder_of(check_alignment)),
    "alignment's pairs": Reader(
        "artifacts/alignments/fr/x/pairs.jsonl", _folder_of(check_alignment)
    ),
    "captions.fr.jsonl": Reader("folder/captions.fr.jsonl", _folder_of(_captions)),
    "captions, .csv": Reader("tables/a.csv", _captions),
    "captions, .tsv": Reader("tables/a.tsv", _captions),
    "captions, .json": Reader("tables/a.json", _captions),
    "captions, COCO": Reader("tables/coco.json", _bare_captions),
    "captions, .jsonl": Reader("tables/a.jsonl", _captions),
    "captions, .xlsx": Reader("tables/a.xlsx", _captions),
    "captions, .parquet": Reader("tables/a.parquet", _captions),
    "captions, text beside pictures": Reader("sidecars/a.fr.txt", _folder_of(_captions)),
    "captions, metadata of a folder": Reader(
        "imagefolder/metadata.jsonl", _folder_of(_bare_captions)
    ),
    "sentences, .tsv": Reader("sentences/a.tsv", _sentences),
    "sentences, .jsonl": Reader("sentences/a.jsonl", _sentences),
    "sentences, .tmx": Reader("sentences/a.tmx", _sentences),
    "sentences, .parquet": Reader("sentences/a.parquet", _sentences),
    "translations, .tsv": Reader("sentences/file.tsv", lambda path: from_file(path, CAPTIONS)),
    "PEFT's settings": Reader("given/peft/adapter_config.json", _imported),
    "PEFT's weights": Reader("given/peft/adapter_model.safetensors", _imported),
    "OpenDelta's settings": Reader("given/opendelta/config.json", _imported),
    "OpenDelta's weights": Reader("given/opendelta/pytorch_model.bin", _imported),
    "an export's manifest": Reader("given/native/manifest.yaml", _imported),
    "other systems": Reader(
        "tables/others.csv", lambda path: read_compared(path, evaluation(row("fr", 50.0)))
    ),
    "prompts": Reader("tables/prompts.txt", read_prompts),
    "queries": Reader("tables/queries.txt", lambda path: read_queries(path, "fr")),
    "hub bank": Reader("tables/bank.txt", lambda path: read_bank(path, "fr")),
    **{f"embedding, {kind}": Reader(f"embedding/a{kind}", _embedding) for kind in FILES},
    "embedding's description": Reader("embedding/a.npy.json", _embedding),
    "an index of faiss": Reader("embedding/a.faiss", _index),
    "such an index's description": Reader("embedding/a.faiss.json", _index),
}


class Files:
    """A sound file for every reader.

    Args:
        folder: An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_mclip_backbone(folder / "backbone")
        backbone = load(folder / "backbone")
        spec = LoraSpec(rank=2, train_layernorm=False)
        stored = store_shaken(folder / "artifacts", backbone, spec)
        for kind in ("peft", "opendelta", "native"):
            export = export_delta(stored, kind, folder / "exported" / kind, lambda: backbone)
            (folder / "given").mkdir(exist_ok=True)
            export.path.rename(folder / "given" / kind)
        self._write_artifacts(ArtifactDirectory.open(folder / "artifacts"))
        self._write_tables()
        self._write_sentences()
        self._write_embeddings()

    def _write_artifacts(self, directory: ArtifactDirectory) -> None:
        root = directory.root
        for weights in root.glob("deltas/fr/shaken/delta-*.safetensors"):
            self._names = {"artifacts/deltas/fr/shaken/delta.safetensors": weights}
        features = np.arange(8, dtype="f4").reshape(2, 4)
        FeatureStore(root / "features/x", 4).add([b"a" * 32, b"b" * 32], torch.from_numpy(features))
        (shard,) = root.glob("features/x/*.safetensors")
        shard.rename(shard.with_name("0.safetensors"))
        np.save(root / "features/x/000000-0.npy", features)
        stamps = {"a.png": (1, 2), "b.png": (3, 4)}
        write_index(root / "indexes/x.safetensors", root, StoredIndex(stamps, features, {}))
        store = TranslationStore(directory, Translator("file", "x", "1"), "fr", "en")
        store.add([Translation("un chat", "a cat"), Translation("un chien", "a dog", ("copied",))])
        self._names["artifacts/translations/fr-en/T/translator.yaml"] = (
            store.folder / "translator.yaml"
        )
        (shard,) = store.folder.glob("*.jsonl")
        self._names["artifacts/translations/fr-en/T/0.jsonl"] = shard
        folder = root / "alignments/fr/x"
        folder.mkdir(parents=True)
        pair = CaptionPair("a.png", "un chat", "a cat")
        (folder / "pairs.jsonl").write_text(json.dumps(asdict(pair)) + "\n")
        plain = {"format": 1, "pairs": {"file": "pairs.jsonl", "sha256": pairs_sha256((pair,))}}
        (folder / "manifest.yaml").write_text(yaml.safe_dump(plain))

    def _write_tables(self) -> None:
        rows = [{"image": f"{n}.png", "fr": f"un chat {n}", "en": f"a cat {n}"} for n in range(3)]
        for folder in ("tables", "sidecars", "imagefolder", "folder/images"):
            (self.folder / folder).mkdir(parents=True)
            for n in range(3):
                Image.new("RGB", (8, 8), (80 * n, 0, 0)).save(self.folder / folder / f"{n}.png")
        tables, table = self.folder / "tables", pa.Table.from_pylist(rows)
        for suffix, separator in ((".csv", ","), (".tsv", "\t")):
            lines = [separator.join(one) for one in (rows[0], *(r.values() for r in rows))]
            (tables / f"a{suffix}").write_text("\n".join(lines) + "\n")
        (tables / "a.json").write_text(json.dumps(rows))
        (tables / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
        images = [{"id": n, "file_name": f"{n}.png"} for n in range(3)]
        captions = [{"image_id": n, "id": n, "caption": f"un chat {n}"} for n in range(3)]
        (tables / "coco.json").write_text(json.dumps({"images": images, "annotations": captions}))
        parquet.write_table(table, tables / "a.parquet")
        book = openpyxl.Workbook()
        for one in (tuple(rows[0]), *(tuple(r.values()) for r in rows)):
            book.active.append(one)
        book.save(tables / "a.xlsx")
        write_captions(
            self.folder / "folder", "fr", *(caption_row(r["image"], r["fr"]) for r in rows)
        )
        for n in range(3):
            (self.folder / f"sidecars/{'a' if n == 0 else n}.fr.txt").write_text(f"un chat {n}\n")
        (self.folder / "sidecars/0.png").rename(self.folder / "sidecars/a.png")
        described = [{"file_name": f"{n}.png", "text": f"un chat {n}"} for n in range(3)]
        (self.folder / "imagefolder/metadata.jsonl").write_text(
            "".join(json.dumps(one) + "\n" for one in described)
        )
        others = "system,language,dataset,mode,n,t2i R@1,source\nA,fr,emoji,image,600,50.0,x\n"
        (tables / "others.csv").write_text(others)
        (tables / "prompts.txt").write_text("une photo de\nun dessin de\n")
        (tables / "queries.txt").write_text("un chat\nfr\tun chien\n")
        (tables / "bank.txt").write_text("".join(f"un chat {n}\n" for n in range(250)))

    def _write_sentences(self) -> None:
        folder = self.folder / "sentences"
        folder.mkdir()
        pairs = [
            ("A black cat sleeps.", "Un chat noir dort."),
            ("A dog runs.", "Un chien court."),
            ("The white dog is big.", "Le chien blanc est grand."),
        ]
        (folder / "a.tsv").write_text("en\tfr\n" + "".join(f"{e}\t{f}\n" for e, f in pairs))
        rows = [{"en": e, "fr": f} for e, f in pairs]
        (folder / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
        parquet.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")
        side = '<tuv xml:lang="{}"><seg>{}</seg></tuv>'
        units = "".join(f"<tu>{side.format('en', e)}{side.format('fr', f)}</tu>" for e, f in pairs)
        (folder / "a.tmx").write_text(
            f'<?xml version="1.0" encoding="UTF-8"?><tmx version="1.4"><header/><body>{units}'
            "</body></tmx>"
        )
        (folder / "file.tsv").write_text(
            "".join(f"{text}\ta {n}\n" for n, text in enumerate(CAPTIONS))
        )

    def _write_embeddings(self) -> None:
        folder = self.folder / "embedding"
        folder.mkdir()
        features, ids = np.eye(4, dtype="f4")[:2], ["a.png", "b.png"]
        digest = Digest()
        digest.add(ids, features)
        work = Work(
            *("pictures", "x", "0" * 64, 2, "", str(folder), None, None, None),
            *("x", _IDENTITY.fingerprint, "float32", "float32", 4),
        )
        description = Description(work, 2, digest.hexdigest())
        for suffix, kind in FILES.items():
            kind.write(folder / f"a{suffix}", description, lambda: iter([(ids, features)]))
        pictures = PictureFeatures.of_file(folder / "a.npy")
        index = build_index(pictures, "flat", Silent())
        write_index_file(folder / "a.faiss", index, pictures, "flat", [])

    def path(self, reader: Reader) -> Path:
        """The file that a reader reads."""
        return self._names.get(reader.file, self.folder / reader.file)


def verdict(reader: Reader, path: Path, content: bytes) -> str:
    """What is wrong with how a reader takes a content; empty where nothing is."""
    sound = path.read_bytes()
    path.write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.read(path)
    except XcliptError as error:
        said = str(error)
        if "\n" in said:
            return f"several lines: {said!r}"
        if path.name not in said and path.parent.name not in said and path.stem not in said:
            return f"names no file: {said!r}"
    except Exception as error:
        return f"unexpected {type(error).__name__}: {str(error)[:300]}"
    finally:
        path.write_bytes(sound)
    return ""


def fuzz(name: str, files: Files, examples: int, number: int = 0) -> str:
    """Give a reader so many contents that are nearly sound; what was wrong with one of them.

    Args:
        name: Of :data:`READERS`.
        files: Sound ones.
        examples: How many.
        number: What they are drawn with.
    """
    drawn = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    try:
        seed(number)(drawn(understood(name, files)))()
    except AssertionError as error:
        return f"{name}: {str(error).splitlines()[0]}"
    except BaseExceptionGroup as several:
        return f"{name}: {str(several.exceptions[0]).splitlines()[0]}"
    return ""


def understood(name: str, files: Files) -> Callable[[], None]:
    """A test of hypothesis: whatever a reader is given, it is read or refused in one line."""
    reader = READERS[name]
    path = files.path(reader)
    sound = path.read_bytes()
    assert not (wrong := verdict(reader, path, sound)), wrong

    @given(data=st.data())
    def test(data: st.DataObject) -> None:
        content = data.draw(_contents(path, sound))
        assert not (wrong := verdict(reader, path, content)), f"{wrong} ({content[:300]!r})"

    return test


def _contents(path: Path, sound: bytes) -> st.SearchStrategy[bytes]:
    edit = st.tuples(st.floats(0, 1), st.integers(0, 8), st.binary(max_size=8))
    kinds = [
        st.lists(edit, min_size=1, max_size=3).map(lambda edits: _edited(sound, edits)),
        st.floats(0, 1, exclude_max=True).map(lambda share: sound[: int(share * len(sound))]),
        st.binary(max_size=60),
        st.text(max_size=30).map(str.encode),
    ]
    if documents := _documents(path, sound):
        places = list(_places(documents))
        changes = st.tuples(st.sampled_from(places), st.sampled_from(ODD))
        kinds += 3 * [changes.map(lambda change: _written(path, _changed(documents, *change)))]
    return st.one_of(kinds)


def _edited(sound: bytes, edits: Sequence[tuple[float, int, bytes]]) -> bytes:
    for where, length, instead in edits:
        start = int(where * len(sound))
        sound = sound[:start] + instead + sound[start + length :]
    return sound


def _documents(path: Path, sound: bytes) -> list[Any]:
    """The values that a file of JSON, JSON lines or YAML holds; none of another."""
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in sound.splitlines() if line]
    if path.suffix == ".json":
        return [json.loads(sound)]
    return [yaml.safe_load(sound)] if path.suffix == ".yaml" else []


def _written(path: Path, documents: list[Any]) -> bytes:
    if path.suffix == ".yaml":
        return yaml.safe_dump(documents[0]).encode()
    return "\n".join(map(json.dumps, documents)).encode()


def _places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where values stand."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, held in inner:
        yield (*before, key)
        if isinstance(held, dict | list) and len(before) < 5:
            yield from _places(held, (*before, key))


def _changed(documents: list[Any], place: tuple[Any, ...], value: Any) -> list[Any]:
    new = copy.deepcopy(documents)
    inner: Any = new
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return new
