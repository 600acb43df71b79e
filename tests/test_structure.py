"""The structure that CODE.md's tree promises: who may import whom, and who speaks of options."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "xclipt"

LAYERS = (
    *(
        "errors",
        "printable",
        "interruption",
        "progress",
        "files",
        "documents",
        "languages",
        "metrics",
        "detection",
        "devices",
        "cores",
    ),
    *("data", "backbones", "deltas", "artifacts", "workspace"),
    *("translation", "parallel", "hubness", "alignment", "training", "evaluation", "model"),
    *("embedding", "search", "serving", "export", "verify", "report", "cli"),
)
"""Packages and modules from the bottom up: each imports only what stands before it."""

SCRIPTS = ("backbones/builtin/train_heads.py", "backbones/builtin/train_warm_start.py")
"""Run by ``python -m``, and imported by nothing in the package: on top, wherever they lie."""

MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def room(module: str) -> str:
    """``data/pairs.py`` and ``data`` are in ``data``, ``workspace.py`` in ``workspace``."""
    return module.removesuffix(".py").split("/")[0]


def imported(module: str) -> Iterator[str]:
    """Modules of xclipt that a file imports, wherever in it, as paths without ``.py``."""
    for node in ast.walk(ast.parse((PACKAGE / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("xclipt."):
                yield name.removeprefix("xclipt.").replace(".", "/")


def test_every_module_stands_in_a_layer():
    rooms = {room(module) for module in MODULES} - {"__init__", "__main__"}
    assert rooms == set(LAYERS)


def test_a_package_imports_only_what_stands_before_it():
    upwards = [
        f"{module} imports {name}"
        for module in MODULES
        if module not in SCRIPTS and room(module) in LAYERS
        for name in imported(module)
        if room(name) in LAYERS[LAYERS.index(room(module)) + 1 :]
    ]
    assert not upwards


def test_nothing_imports_a_script():
    scripts = {script.removesuffix(".py") for script in SCRIPTS}
    for module in MODULES:
        names = {part for name in imported(module) for part in (name, name.rpartition("/")[0])}
        assert module in SCRIPTS or not names & scripts, module


_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
_COMMAND = re.compile(r"`(xclipt|pip|hf) [^`]*`|^\s*(\$ .*|python -m .*|\[.*)$", re.MULTILINE)
"""Whole commands to run, which name options as a matter of course."""


class _Texts(ast.NodeVisitor):
    def __init__(self) -> None:
        self.found: list[str] = []

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self.found.append(node.value)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        parts = [str(v.value) if isinstance(v, ast.Constant) else "..." for v in node.values]
        self.found.append("".join(parts))


def test_the_library_speaks_of_fields_and_not_of_options():
    spoken = {}
    for module in MODULES:
        if room(module) != "cli" and module not in SCRIPTS:
            visitor = _Texts()
            visitor.visit(ast.parse((PACKAGE / module).read_text(encoding="utf-8")))
            spoken |= {
                f"{module}: {text}": option[0]
                for text in visitor.found
                if (option := _OPTION.search(_COMMAND.sub("", text)))
            }
    assert not spoken


_RECOMMENDED = re.compile(
    r"(?<![`$] )(?<!`)xclipt (align|data|embed|eval|export-delta|import-delta|index|remove|search|"
    r"serve|status|train-delta|translate|use|verify)\b"
)


def test_commands_in_messages_stand_in_backquotes():
    """There ``cli/advice.py`` completes them. Docstrings are for readers of the code."""
    bare = []
    for module in MODULES:
        tree = ast.parse((PACKAGE / module).read_text(encoding="utf-8"))
        owners = (ast.Module, ast.ClassDef, ast.FunctionDef)
        documents = {
            ast.get_docstring(n, clean=False) for n in ast.walk(tree) if isinstance(n, owners)
        }
        visitor = _Texts()
        visitor.visit(tree)
        bare += [
            f"{module}: {text}"
            for text in visitor.found
            if text not in documents and _RECOMMENDED.search(text)
        ]
    assert not bare
