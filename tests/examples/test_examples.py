"""The short examples run as their first lines say, on real deltas."""

import csv
import importlib.util
import warnings
from pathlib import Path
from types import ModuleType

import pytest

from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.data.emoji import EmojiDataset
from xclipt.workspace import Workspace

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def example(name: str) -> ModuleType:
    described = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(described)
    described.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _loaded_already(backbone, monkeypatch):
    def opened(root, progress, **options):
        directory, _ = ArtifactDirectory.open_or_create(root, backbone.identity)
        return Workspace(directory, backbone, progress)

    monkeypatch.setattr("xclipt.serving.model.open_workspace", opened)
    monkeypatch.setattr("xclipt.workspace.open_workspace", opened)


def test_quickstart(taught, capsys):
    example("quickstart").main(str(taught.directory.root))
    printed = capsys.readouterr().out
    assert "3 texts, 512 numbers each" in printed
    assert "fr lora-8shot-seed1" in printed and "nl frozen base !" in printed


def test_own_captions(tmp_path, capsys):
    emoji, captions = EmojiDataset(), tmp_path / "captions.csv"
    with captions.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "caption", "language"])
        for language in ("en", "tr"):
            for item in emoji.captions(language, "train")[:24]:
                path = tmp_path / item.image
                path.write_bytes(emoji.picture_path(item.image).read_bytes())
                writer.writerow([item.image, item.captions[0], language])
    artifacts = tmp_path / "artifacts"
    example("own_captions").main(str(captions), "tr", str(artifacts), "4")
    printed = capsys.readouterr().out
    assert "lora-4shot-seed1: 759 kB" in printed and "tr base" in printed
    assert (artifacts / "deltas/tr/lora-4shot-seed1/manifest.yaml").is_file()


def test_search_in_five_languages(taught, tmp_path, capsys):
    emoji = EmojiDataset()
    for item in emoji.captions("en", None):
        if item.captions[0] in ("dog", "red apple", "airplane", "rose"):
            picture = emoji.picture_path(item.image).read_bytes()
            (tmp_path / f"{item.captions[0]}.png").write_bytes(picture)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        example("search_five_languages").main(str(tmp_path), str(taught.directory.root))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "4 pictures" and len(lines) == 6
    assert [line[:2] for line in lines[1:]] == ["fr", "de", "ja", "ar", "en"]
    assert sum(": dog.png" in line for line in lines[1:]) >= 3, lines
