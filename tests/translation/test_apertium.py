"""Apertium: the program run for real where it is installed, and its chains anywhere."""

import subprocess

import pytest

from xclipt.errors import XcliptError
from xclipt.translation.engines import apertium
from xclipt.translation.engines.apertium import ApertiumEngine, find_chain, list_modes

MODES = {
    **{"cat-eng": ("ca", "en"), "eng-cat": ("en", "ca"), "es-fr": ("es", "fr")},
    **{"fr-es": ("fr", "es"), "fra-cat": ("fr", "ca"), "spa-eng": ("es", "en")},
}


def have(*modes):
    if not apertium.is_installed() or not set(modes) <= set(list_modes()):
        pytest.skip(f"apertium with {', '.join(modes)} is not installed")


def test_chains():
    assert find_chain(MODES, "es", "en") == ("spa-eng",)
    assert find_chain(MODES, "fr", "en") == ("fr-es", "spa-eng")
    assert find_chain(MODES, "en", "es") == ()
    assert find_chain(MODES, "ca", "fr") == ()


def test_a_text_in_a_line_out_whatever_is_in_it():
    have("spa-eng")
    texts = [
        "un gato negro",
        "gato [sic] $5 ^b/c a@b_c {x} <b>hola</b> \\ y/o *",
        "el perro. El gato.",
        "¿el perro?\nuna mesa\u2028roja",
        "xyzzyq",
        "",
        "[]",
        ".",
        "el perro",
    ]
    made = ApertiumEngine("es", "en").translate(texts)
    assert len(made) == len(texts)
    assert made[0].lower() == "a black cat" and made[-1].lower() == "the dog"
    assert made[1].startswith("Cat [sic] $5 ^b/c a@b_c {x} <b>") and made[1].endswith("*")
    assert "\n" not in made[3] and "table" in made[3]
    assert made[4:7] == ["xyzzyq", "", "[]"]


def test_a_translation_does_not_depend_on_its_neighbours(data_root):
    have("spa-eng")
    from xclipt.data.registry import open_dataset

    spanish = [
        item.captions[0] for item in open_dataset("xtd", data_root).captions("es", None)[:40]
    ]
    engine = ApertiumEngine("es", "en")
    together = engine.translate(spanish)
    assert [engine.translate([text])[0] for text in spanish[:12]] == together[:12]
    assert engine.translate(spanish[::-1])[::-1] == together


def test_by_pivot_and_by_a_chain_that_is_named():
    have("fr-es", "spa-eng", "fra-cat", "cat-eng")
    found = ApertiumEngine("fr", "en")
    assert found.translator.model == "fr-es spa-eng" and "then" in found.about
    assert found.translate(["un chat noir"])[0].lower() == "a black cat"
    named = ApertiumEngine("fr", "en", "fra-cat cat-eng")
    assert named.translate(["un chat noir"])[0].lower() == "a black cat"
    assert named.translator != found.translator
    for chain, part in (
        ("cat-eng", "does not lead on from 'fr'"),
        ("fra-cat", "leads to 'ca'"),
        ("fra-xyz", "does not lead on"),
    ):
        with pytest.raises(XcliptError, match=part):
            ApertiumEngine("fr", "en", chain)


def test_pairs_that_are_missing_are_said(monkeypatch):
    monkeypatch.setattr(apertium, "list_modes", lambda: MODES)
    with pytest.raises(XcliptError, match=r"no pairs lead from Turkish to English .*cat-eng"):
        ApertiumEngine("tr", "en")
    monkeypatch.undo()
    monkeypatch.setattr(apertium, "PROGRAM", "no-such-program")
    with pytest.raises(XcliptError, match="not installed; apt install"):
        ApertiumEngine("es", "en")


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put a script in the program's place."""

    def install(script):
        path = tmp_path / "apertium"
        path.write_text(f'#!/bin/sh\nif [ "$1" = -l ]; then echo spa-eng; exit; fi\n{script}\n')
        path.chmod(0o755)
        monkeypatch.setattr(apertium, "PROGRAM", str(path))
        return ApertiumEngine("es", "en")

    return install


@pytest.mark.parametrize(
    ("script", "part"),
    [
        ("printf 'a.[]\\0'", "did not give one translation a text for 2 texts"),
        ("printf 'a.[]\\0b'", "did not give one translation"),
        ("printf 'a.[]\\0b.[]\\0c.[]\\0'", "did not give one translation"),
        ('[ "$1" = -V ] && exit; echo broken >&2; exit 3', r"failed with 3 \(broken\)"),
    ],
)
def test_what_the_program_gets_wrong(program, script, part):
    with pytest.raises(XcliptError, match=part):
        program(script).translate(["uno", "dos"])


def test_a_program_that_hangs_is_stopped_with_its_pipeline(program, monkeypatch):
    engine = program('[ "$1" = -V ] && exit; sleep 4242 | cat')
    run = apertium._run
    monkeypatch.setattr(apertium, "_run", lambda command, data, _: run(command, data, 0.3))
    with pytest.raises(XcliptError, match="did not end within 0 s"):
        engine.translate(["uno"])
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert "sleep 4242" not in listed.stdout.splitlines()
