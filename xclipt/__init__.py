"""Teach one frozen image-text model a new language with a tiny delta.

Everything that a program needs is here; the modules behind it may move.

>>> import xclipt
>>> workspace = xclipt.open_workspace("xclipt-artifacts", create=True)  # doctest: +SKIP
>>> emoji = xclipt.open_dataset("emoji")
>>> request = xclipt.TrainingRequest(xclipt.AlignmentRequest("fr", shots=10))
>>> delta = xclipt.train_delta(workspace, emoji, request)  # doctest: +SKIP
>>> result = xclipt.evaluate(workspace, emoji, xclipt.EvaluationRequest(["fr"]))  # doctest: +SKIP

>>> model = xclipt.load("xclipt-artifacts")  # doctest: +SKIP
>>> model.encode_text(["un chat noir"], language="fr")  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from xclipt.errors import FallbackWarning, UsageError, XcliptError

if TYPE_CHECKING:
    from xclipt.alignment.align import align
    from xclipt.alignment.build import AlignmentRequest
    from xclipt.artifacts.directory import ArtifactDirectory
    from xclipt.backbones.registry import text_folder
    from xclipt.data.registry import open_dataset
    from xclipt.data.survey import survey
    from xclipt.deltas.adapter import AdapterSpec
    from xclipt.deltas.compacter import CompacterSpec
    from xclipt.deltas.full_finetune import FullSpec
    from xclipt.deltas.kinds import PartialSpec
    from xclipt.deltas.lora import LoraSpec
    from xclipt.deltas.soft_prompt import SoftPromptSpec
    from xclipt.evaluation.evaluate import evaluate
    from xclipt.evaluation.queries import EvaluationRequest
    from xclipt.export.formats import export_delta
    from xclipt.export.importing import import_delta
    from xclipt.export.recall import RecallCheck
    from xclipt.hubness import read_bank
    from xclipt.model import Model, load
    from xclipt.progress import Lines
    from xclipt.search.index import index_pictures
    from xclipt.training.recipe import SENTENCES, Recipe, recipe_with
    from xclipt.training.request import Parallel, TrainingRequest
    from xclipt.training.train import train_delta
    from xclipt.workspace import Workspace, open_backbone, open_workspace

__version__ = "0.1.0"

# They bring torch, which takes seconds to import, so each is imported when it is asked for.
_HOMES = {
    "align": "alignment.align",
    "AlignmentRequest": "alignment.build",
    "ArtifactDirectory": "artifacts.directory",
    "text_folder": "backbones.registry",
    "open_dataset": "data.registry",
    "survey": "data.survey",
    "AdapterSpec": "deltas.adapter",
    "CompacterSpec": "deltas.compacter",
    "FullSpec": "deltas.full_finetune",
    "PartialSpec": "deltas.kinds",
    "LoraSpec": "deltas.lora",
    "SoftPromptSpec": "deltas.soft_prompt",
    "evaluate": "evaluation.evaluate",
    "EvaluationRequest": "evaluation.queries",
    "export_delta": "export.formats",
    "import_delta": "export.importing",
    "RecallCheck": "export.recall",
    "read_bank": "hubness",
    "Model": "model",
    "load": "model",
    "Lines": "progress",
    "index_pictures": "search.index",
    "SENTENCES": "training.recipe",
    "Recipe": "training.recipe",
    "recipe_with": "training.recipe",
    "Parallel": "training.request",
    "TrainingRequest": "training.request",
    "train_delta": "training.train",
    "Workspace": "workspace",
    "open_backbone": "workspace",
    "open_workspace": "workspace",
}

__all__ = [
    "SENTENCES",
    "AdapterSpec",
    "AlignmentRequest",
    "ArtifactDirectory",
    "CompacterSpec",
    "EvaluationRequest",
    "FallbackWarning",
    "FullSpec",
    "Lines",
    "LoraSpec",
    "Model",
    "Parallel",
    "PartialSpec",
    "RecallCheck",
    "Recipe",
    "SoftPromptSpec",
    "TrainingRequest",
    "UsageError",
    "Workspace",
    "XcliptError",
    "align",
    "evaluate",
    "export_delta",
    "import_delta",
    "index_pictures",
    "load",
    "open_backbone",
    "open_dataset",
    "open_workspace",
    "read_bank",
    "recipe_with",
    "survey",
    "text_folder",
    "train_delta",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"xclipt.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'xclipt' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
