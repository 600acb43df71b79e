"""Readers of files are given what is none, and say so in one line: see RELIABILITY.md."""

import pytest

from tests.reliability.readers import READERS, Files, fuzz, verdict

EXAMPLES = 12
BROKE = [
    (
        "features of sentences",
        "header's brackets",
        lambda sound: sound.replace(b"(2, 4)", b"(2, 4("),
    ),
    (
        "config.json of a backbone that is described",
        "a token without an id",
        lambda sound: sound.replace(b'"eos_token_id": 2', b'"eos_token_id": "x"'),
    ),
    ("current", "emptied", lambda sound: b""),
    ("translator", "emptied", lambda sound: b""),
]
"""What broke a reader once."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return Files(tmp_path_factory.mktemp("files"))


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_a_reader(files, name):
    assert not fuzz(name, files, EXAMPLES)


@pytest.mark.parametrize(
    ("name", "what", "harm"), BROKE, ids=[f"{name}, {what}" for name, what, _ in BROKE]
)
def test_what_broke_one(files, name, what, harm):
    path = files.path(READERS[name])
    sound = path.read_bytes()
    harmed = harm(sound)
    assert harmed != sound
    assert not verdict(READERS[name], path, harmed)
