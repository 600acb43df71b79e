"""Names are checked in one place, for every command and every import."""

import pytest

from tests.factories.deltas import store_noise
from tests.factories.tiny import tiny_backbone
from xclipt.alignment.build import AlignmentRequest
from xclipt.artifacts.directory import ArtifactDirectory, check_name
from xclipt.errors import XcliptError
from xclipt.export.formats import export_delta
from xclipt.progress import Silent
from xclipt.training.request import TrainingRequest
from xclipt.workspace import Workspace

GOOD = ("a", "lora-10shot-seed1", "v1.2", "Current-2", "console", "com10", "x" * 100)
BAD = (
    *("current", "Current", "CURRENT", "current.txt", "con", "NUL", "aux.yaml", "COM1", "lpt9.x"),
    *("", ".", "..", ".hidden", "a/b", "a\\b", "/etc", "a b", "a\tb", "a\0b", "é", "a.", "-a"),
    *("x" * 101, "a\n"),
)


@pytest.mark.parametrize("name", GOOD)
def test_good_names(name):
    check_name(name)


@pytest.mark.parametrize("name", BAD)
def test_bad_names_are_one_line_before_anything_is_loaded(name):
    with pytest.raises(XcliptError, match="cannot name a delta"):
        check_name(name)
    if name:
        with pytest.raises(XcliptError, match=r"^name '") as error:
            TrainingRequest(AlignmentRequest("fr"), name=name)
        assert "\n" not in str(error.value).replace(name, "")


@pytest.fixture
def directory(tmp_path):
    backbone = tiny_backbone()
    made, _ = ArtifactDirectory.open_or_create(tmp_path / "artifacts", backbone.identity)
    store_noise(Workspace(made, backbone, Silent()), "fr", "one", 0.1)
    return made


def test_names_that_differ_in_case_alone_are_one_on_some_systems(directory):
    assert directory.delta_folder("fr", "one").name == "one"
    with pytest.raises(XcliptError, match="has 'one', which differs in case alone"):
        directory.delta_folder("fr", "ONE")


def test_an_export_that_calls_itself_current_makes_no_folder(directory, tmp_path):
    export = export_delta(directory.current("fr"), "native", tmp_path / "out")
    manifest = export.path / "manifest.yaml"
    manifest.write_text(manifest.read_text().replace("name: one", "name: current"))
    with pytest.raises(XcliptError, match="it is a reserved word"):
        directory.delta_folder("fr", "current")
    assert not (directory.root / "deltas/fr/current").is_dir()


def test_a_folder_in_the_place_of_current_is_one_line(directory):
    current = directory.root / "deltas/fr/current"
    current.unlink()
    current.mkdir()
    with pytest.raises(XcliptError, match="must be a file that names a delta"):
        directory.current("fr")
