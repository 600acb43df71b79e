"""Deltas of all kinds for the builtin backbone, each trained on a few emoji for a few steps."""

from pathlib import Path

from xclipt.alignment.build import AlignmentRequest
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.backbones.backbone import Backbone
from xclipt.data.sets.emoji import EmojiDataset
from xclipt.deltas.adapter import AdapterSpec
from xclipt.deltas.compacter import CompacterSpec
from xclipt.deltas.kind import DeltaSpec
from xclipt.deltas.lora import ALL_LINEAR, LoraSpec
from xclipt.deltas.soft_prompt import SoftPromptSpec
from xclipt.progress import Silent
from xclipt.training.recipe import recipe_with
from xclipt.training.request import TrainingRequest
from xclipt.training.train import train_delta
from xclipt.workspace import Workspace

SPECS: dict[str, DeltaSpec] = {
    "fr": LoraSpec(),
    "de": LoraSpec(),
    "ja": LoraSpec(hard_prompt="写真"),
    "tr": LoraSpec(rank=4),
    "zh": LoraSpec(rank=2, modules=ALL_LINEAR),
    "es": AdapterSpec(),
    "pt": CompacterSpec(),
    "it": SoftPromptSpec(),
    "ru": LoraSpec(tune_head=True),
}
TEXTS = {
    "fr": ["un chat noir", "deux chiens courent dans la neige fraîche"],
    "de": ["eine rote Katze", "ein Kind spielt mit einem Ball am Strand"],
    "ja": ["黒い猫", "雪の中を走る二匹の犬"],
    "tr": ["siyah bir kedi", "karda koşan iki köpek"],
    "zh": ["一只黑猫", "两只狗在雪地里奔跑"],
    "es": ["un gato negro", "dos perros corren por la nieve"],
    "pt": ["um gato preto", "dois cães correm na neve"],
    "it": ["un gatto nero", "due cani corrono nella neve"],
    "ru": ["чёрная кошка", "две собаки бегут по снегу"],
    "en": ["a black cat", "two dogs run through the snow"],
}


def teach_languages(root: Path, backbone: Backbone) -> Workspace:
    """An artifact directory with a delta of every language of :data:`SPECS`."""
    directory, _ = ArtifactDirectory.open_or_create(root, backbone.identity)
    workspace = Workspace(directory, backbone, Silent())
    recipe = recipe_with(epochs=2, learning_rate=5e-4)
    for language, spec in SPECS.items():
        pairs = AlignmentRequest(language, shots=8)
        request = TrainingRequest(pairs, spec, recipe, validation_pictures=0)
        train_delta(workspace, EmojiDataset(), request)
    return workspace
