"""``import xclipt`` is all that a program needs: light, complete, and shown by examples."""

import doctest
import subprocess
import sys

import pytest

import xclipt


def test_every_public_name_is_there_and_has_a_docstring():
    for name in xclipt.__all__:
        assert getattr(xclipt, name).__doc__, name
    assert set(dir(xclipt)) == set(xclipt.__all__)
    with pytest.raises(AttributeError, match="no attribute 'trane_delta'"):
        xclipt.trane_delta  # noqa: B018


def test_importing_it_does_not_load_torch():
    code = "import sys, xclipt; assert xclipt.XcliptError and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_the_examples_of_the_docstrings_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
    tried = 0
    # In the order of a first day: later ones find what earlier ones left.
    for name in (
        *("open_dataset", "open_workspace", "TrainingRequest", "train_delta", "evaluate"),
        *("align", "export_delta", "load"),
    ):
        (example,) = finder.find(getattr(xclipt, name), name, globs={})
        assert example.examples, f"{name} shows no example"
        tried += len(example.examples)
        assert runner.run(example).failed == 0, name
    assert tried > 20
