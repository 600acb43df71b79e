"""Whatever a user gets wrong is told in one line that names it, and nothing is left behind."""

import json

import pytest
import yaml

from tests.factories.running import run_xclipt
from xclipt.artifacts.directory import ArtifactDirectory


@pytest.fixture
def artifacts(tmp_path, backbone):
    ArtifactDirectory.open_or_create(tmp_path / "artifacts", backbone.identity)
    return tmp_path / "artifacts"


def refused(artifacts, *arguments, code=1):
    run = run_xclipt(*arguments, "--artifacts", artifacts)
    assert run.code == code, run.err
    assert run.out == ""
    lines = [line for line in run.err.splitlines() if line.startswith("xclipt: ")]
    assert len(lines) == 1, run.err
    assert "Traceback" not in run.err
    return lines[0]


def a_folder(tmp_path, make_picture, captions=6):
    folder = tmp_path / "mine"
    for i in range(captions):
        make_picture(folder / "images" / f"{i}.png", ("red", "green", "blue")[i % 3])
    for language in ("en", "fr"):
        lines = [
            json.dumps({"image": f"{i}.png", "captions": [f"{language} {i}"]})
            for i in range(captions)
        ]
        (folder / f"captions.{language}.jsonl").write_text("\n".join(lines))
    return folder


def test_a_folder_without_captions(artifacts, tmp_path):
    (tmp_path / "pictures").mkdir()
    line = refused(artifacts, "eval", "--dataset", tmp_path / "pictures", code=2)
    assert "captions." in line and "pictures" in line


def test_an_image_that_is_not_one(artifacts, tmp_path, make_picture):
    folder = a_folder(tmp_path, make_picture)
    (folder / "images" / "3.png").write_text("<html>404</html>")
    line = refused(artifacts, "eval", "--lang", "fr", "--dataset", folder)
    assert "3.png" in line and "not an image" in line


def test_broken_pictures_are_counted(artifacts, tmp_path, make_picture):
    folder = a_folder(tmp_path, make_picture)
    for i in (0, 2, 3, 5):
        (folder / "images" / f"{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    line = refused(artifacts, "eval", "--lang", "fr", "--dataset", folder)
    assert "pictures are broken" in line and "0.png" in line and "--allow-missing" in line


def test_missing_pictures_are_counted_and_the_way_on_is_named(artifacts, tmp_path, make_picture):
    folder = a_folder(tmp_path, make_picture)
    for i in (1, 4):
        (folder / "images" / f"{i}.png").unlink()
    line = refused(artifacts, "eval", "--lang", "fr", "--dataset", folder)
    assert "2 of 6" in line and "1.png" in line and "--allow-missing" in line
    run = run_xclipt(
        *("eval", "--lang", "fr", "--dataset", folder, "--allow-missing", "--json"),
        *("--artifacts", artifacts),
    )
    assert run.code == 0 and run.json()["rows"][0]["n"] == 4
    assert "2 of 6 pictures are missing" in run.err


def test_an_artifact_directory_of_another_backbone(artifacts):
    identity = {"id": "builtin", "revision": "0", "fingerprint": "ab" * 32}
    (artifacts / "xclipt.yaml").write_text(yaml.safe_dump({"format": 1, "backbone": identity}))
    line = refused(artifacts, "train-delta", "--lang", "fr", "--shots", "4")
    assert "abababababab" in line and "--artifacts" in line


def test_a_place_that_cannot_be_written():
    line = refused("/proc/xclipt", "train-delta", "--lang", "fr", "--shots", "4")
    assert "/proc/xclipt" in line and "cannot write" in line


def test_a_folder_that_holds_something_else(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    line = refused(tmp_path, "train-delta", "--lang", "fr", "--shots", "4")
    assert "not an artifact directory" in line
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("shoots: 10", "unknown option 'shoots'"),
        ("- a", "must be a mapping"),
        ("a: [", "not YAML"),
        ("lang: {fr: 1}", "one value or a list"),
    ],
)
def test_config_files(artifacts, tmp_path, text, part):
    config = tmp_path / "c.yaml"
    config.write_text(text)
    line = refused(artifacts, "train-delta", "--lang", "fr", "--config", config, code=2)
    assert part in line and "c.yaml" in line


def test_config_with_a_wrong_type_is_usage(artifacts, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("rank: eight")
    line = refused(artifacts, "train-delta", "--lang", "fr", "--config", config, code=2)
    assert "rank" in line


def test_verbose_shows_where_an_error_arose(tmp_path):
    run = run_xclipt("status", "--artifacts", tmp_path / "none", "-v")
    assert run.code == 2
    assert "Traceback" in run.err


def test_all_pictures_trained_on_leaves_nothing_to_measure(artifacts, tmp_path, make_picture):
    folder = a_folder(tmp_path, make_picture)
    trained = run_xclipt(
        *("train-delta", "--lang", "fr", "--dataset", folder, "--shots", "all"),
        *("--epochs", "1", "--artifacts", artifacts),
    )
    assert trained.code == 0, trained.err
    line = refused(artifacts, "eval", "--lang", "fr", "--dataset", folder, code=2)
    assert "trained on all but 0" in line
