"""What the paper's released code computes, written out anew, beside what xclipt computes.

The loop below has nothing of xclipt's but recorded choices: initial values, the order of the
pictures in a batch, and the seeds that dropout masks are drawn with. Texts come from the published
files, the split from ``torch.randperm``, the tower from transformers, deltas are hooks on it.
"""

import gzip
import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

from tests.factories.models import (
    roberta_settings,
    write_mclip_backbone,
    write_xlm_roberta_tokenizer,
)
from tests.factories.tiny import WORDS
from xclipt.alignment.build import AlignmentRequest, build_alignment
from xclipt.data.dataset import Dataset
from xclipt.data.registry import open_dataset
from xclipt.data.sets import xtd
from xclipt.data.sets.xtd import XtdDataset
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.adapter import AdapterSpec
from xclipt.deltas.compacter import CompacterSpec
from xclipt.deltas.full_finetune import FullSpec
from xclipt.deltas.kind import DeltaSpec
from xclipt.deltas.lora import LoraSpec
from xclipt.deltas.soft_prompt import SoftPromptSpec
from xclipt.progress import Silent
from xclipt.training.loop import Outcome, TrainingState, fit
from xclipt.training.pairs import rows_of_epochs
from xclipt.training.prepare import prepare
from xclipt.training.recipe import PAPER, RECIPES, Recipe, recipe_with
from xclipt.training.request import TrainingRequest
from xclipt.translation.store import Translation, TranslationStore, Translator
from xclipt.workspace import Workspace, open_workspace

PICTURES, SHOTS, SEED = 17, 5, 1
SCRIPTS = RECIPES["paper-scripts"]
RECIPE = recipe_with(SCRIPTS.recipe, epochs=20, batch_size=2, learning_rate=3e-3)
"""60 steps: three an epoch, the last of one pair."""

ROUTINES: dict[str, tuple[dict[str, Any], str, str | None]] = {
    "baseline1": ({"routine": None}, "T", None),
    "baseline2": ({"routine": None, "text": "to-en"}, "B", None),
    "method1": ({"routine": 1}, "T", "E"),
    "method2": ({"routine": 2}, "T", "F"),
    "method3": ({"routine": 3}, "B", "E"),
    "preliminary": ({"routine": None, "joint": ("fr", "de")}, "T+T of de", None),
}
"""By the released code's names (as its trainer numbers them): our fields, and which texts are
trained (and validated and tested) and which are the partners."""

KINDS: dict[str, DeltaSpec] = {
    "run_cross": LoraSpec(**SCRIPTS.lora),
    "lora": LoraSpec(rank=8),
    "adapter": AdapterSpec(bottleneck=24),
    "compacter": CompacterSpec(reduction=2),
    "prompt": SoftPromptSpec(tokens=4),
    "everything": FullSpec(),
}
LOSSES = {"mse": "mse", "contrastive": "contrastive", "contrastive_with_image": "image"}


@dataclass(frozen=True)
class World:
    """A published data set and a backbone, and the texts as the released code calls them."""

    workspace: Workspace
    dataset: Dataset
    language: str
    texts: dict[str, dict[str, str]]
    train: list[str]
    validation: list[str]
    shots: int


def drawn(images: list[str]) -> list[str]:
    """All pictures in the order that the split seed gives them."""
    generator = torch.Generator().manual_seed(42)
    return [images[i] for i in torch.randperm(len(images), generator=generator).tolist()]


def sentences(seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.sample(WORDS, draw.randint(2, 9))) for _ in range(PICTURES)]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> World:
    """XTD's layout with made-up captions and pictures of noise."""
    root = tmp_path_factory.mktemp("released")
    backbone = write_mclip_backbone(root / "backbone")
    images = [f"COCO_train2014_{i:012d}.jpg" for i in range(PICTURES)]
    texts = {what: sentences(seed) for seed, what in enumerate(["T", "E", "F", "B", "T of de"])}
    written = {xtd.PICTURES_FILE: images}
    written |= {xtd.CAPTIONS_FILES["fr"]: texts["T"], xtd.CAPTIONS_FILES["en"]: texts["E"]}
    written |= {xtd.CAPTIONS_FILES["de"]: texts["T of de"]}
    for file, lines in written.items():
        (root / "xtd" / file).parent.mkdir(parents=True, exist_ok=True)
        (root / "xtd" / file).write_text("\n".join(lines) + "\n")
    (root / "xtd/images").mkdir()
    for seed, image in enumerate(images):
        noise = torch.randint(0, 256, (8, 8, 3), generator=torch.Generator().manual_seed(seed))
        Image.fromarray(noise.byte().numpy()).save(root / "xtd/images" / image)
    dataset = XtdDataset(root / "xtd", root / "xtd/images")
    # The other languages' files are not there.
    dataset.languages = ("en", "fr", "de")
    workspace = open_workspace(root / "artifacts", backbone=str(backbone), create=True)
    order = drawn(images)
    return World(
        workspace,
        dataset,
        "fr",
        {what: dict(zip(images, lines, strict=True)) for what, lines in texts.items()},
        order[:SHOTS],
        order[SHOTS : 2 * SHOTS],
        SHOTS,
    )


@pytest.fixture(scope="module")
def task2(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Multi30K task 2's layout: five captions a picture, of which the released code reads one."""
    root = tmp_path_factory.mktemp("task2")
    backbone = write_mclip_backbone(root / "backbone")
    folder = root / "multi30k/data/task2"
    texts: dict[str, dict[str, str]] = {"T": {}, "E": {}}
    listed = {"train": [f"{i}.jpg" for i in range(17)], "val": [f"{i}.jpg" for i in range(20, 32)]}
    listed["test_2016"] = ["40.jpg", "41.jpg"]
    (folder / "raw").mkdir(parents=True)
    (folder / "image_splits").mkdir()
    for split, images in listed.items():
        (folder / f"image_splits/{split}_images.txt").write_text("\n".join(images) + "\n")
        for seed, (what, code) in enumerate({"T": "de", "E": "en"}.items()):
            for number in range(1, 6):
                lines = sentences(100 * seed + 10 * number + len(split))[: len(images)]
                file = folder / f"raw/{split}.{number}.{code}"
                file.write_text("\n".join(lines) + "\n")
                if number == 1:
                    texts[what] |= dict(zip(images, lines, strict=True))
    photographs = root / "flickr30k-images"
    photographs.mkdir()
    for image in [image for images in listed.values() for image in images]:
        generator = torch.Generator().manual_seed(int(image[:-4]))
        noise = torch.randint(0, 256, (8, 8, 3), generator=generator).byte()
        Image.fromarray(noise.numpy()).save(photographs / image)
    return World(
        open_workspace(root / "artifacts", backbone=str(backbone), create=True),
        open_dataset("multi30k-task2", root, caption=1),
        "de",
        texts,
        drawn(listed["train"])[:SHOTS],
        listed["val"],
        SHOTS,
    )


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> World:
    """Multi30K's photographs, captions and published translations, XLM-R's own vocabulary."""
    root = tmp_path_factory.mktemp("multi30k")
    backbone = write_mclip_backbone(
        root / "backbone", settings=roberta_settings(vocab_size=250_002)
    )
    write_xlm_roberta_tokenizer(backbone)
    folder = data_root / "multi30k"
    published = folder / "data/task1"
    texts: dict[str, dict[str, str]] = {what: {} for what in "TEFB"}
    listed = {}
    for split in ("train", "val"):
        listed[split] = (published / f"image_splits/{split}.txt").read_text().split()
        for what, file in {
            "T": published / f"raw/{split}.de.gz",
            "E": published / f"raw/{split}.en.gz",
            "F": folder / f"translated_from_en/{split}.de.gz",
            "B": folder / f"translated_to_en/{split}.de.gz",
        }.items():
            lines = gzip.decompress(file.read_bytes()).decode().strip().split("\n")
            texts[what] |= dict(zip(listed[split], (x.strip() for x in lines), strict=True))
    there = {path.name for path in (data_root / "flickr30k-images").iterdir()}
    return World(
        open_workspace(root / "artifacts", backbone=str(backbone), create=True),
        open_dataset("multi30k", data_root),
        "de",
        texts,
        [image for image in drawn(listed["train"])[:60] if image in there],
        [image for image in listed["val"] if image in there],
        60,
    )


def stored(world: World) -> World:
    """The world with its translations in the artifact directory."""
    texts, images = world.texts, [*world.train, *world.validation]
    for source, made, way in (
        ("T", "B", (world.language, "en")),
        ("E", "F", ("en", world.language)),
    ):
        store = TranslationStore(world.workspace.directory, Translator("file", made, "1"), *way)
        store.add([Translation(texts[source][i], texts[made][i]) for i in images])
    return world


class Released:
    """M-CLIP with a delta, as transformers and the paper's code have it.

    Args:
        folder: M-CLIP's checkpoint.
        spec: What the delta is.
        values: Its initial values, by the names that OpenDelta gives them.
    """

    def __init__(self, folder: Path, spec: DeltaSpec, values: dict[str, Tensor]) -> None:
        plain = json.loads((folder / "config.json").read_text())
        self.model = XLMRobertaModel(XLMRobertaConfig(**plain)).requires_grad_(False)
        assert self.model.config.hidden_dropout_prob == 0.1
        state = torch.load(folder / "pytorch_model.bin", weights_only=True)
        prefix = "transformer."
        inner = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        self.model.load_state_dict(inner, strict=False)
        self.head = {
            part: state[f"LinearTransformation.{part}"].clone() for part in ("weight", "bias")
        }
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        self.values = {name: nn.Parameter(value.clone()) for name, value in values.items()}
        self.prompt: nn.Parameter | None = None
        self.spec = spec
        for name, value in self.values.items():
            self._put_in(name, value)

    def _put_in(self, name: str, value: nn.Parameter) -> None:
        module, _, last = name.rpartition(".")
        if name.startswith("head."):
            self.head[last] = value
        elif name.endswith(".lora.lora_A"):
            place, scale = module.removesuffix(".lora"), 16 / len(value)
            up = self.values[f"{module}.lora_B"]
            self._after(place, lambda x, y: y + scale * (x @ value.T) @ up.T)
        elif name.endswith(".adapter.modulelist.down_proj.weight"):
            base = name.removesuffix("down_proj.weight")
            self._after(module.partition(".adapter")[0], self._adapter(base))
        elif name.endswith(".compactor.down_sampler.phm_rule"):
            base = name.removesuffix("down_sampler.phm_rule")
            self._after(module.partition(".compactor")[0], self._compacter(base))
        elif name.endswith("soft_prompt.vectors"):
            self.prompt = value
        elif not any(part in name for part in (".lora.", ".adapter.", ".compactor.")):
            setattr(self.model.get_submodule(module), last, value)

    def _after(self, place: str, change: Callable[[Tensor, Tensor], Tensor]) -> None:
        def hook(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
            return change(given[0], output)

        self.model.get_submodule(place).register_forward_hook(hook)

    def _adapter(self, base: str) -> Callable[[Tensor, Tensor], Tensor]:
        def change(x: Tensor, y: Tensor) -> Tensor:
            down, bias, up, end = (
                self.values[f"{base}{part}_proj.{kind}"]
                for part in ("down", "up")
                for kind in ("weight", "bias")
            )
            return y + F.gelu(y @ down.T + bias, approximate="tanh") @ up.T + end

        return change

    def _compacter(self, base: str) -> Callable[[Tensor, Tensor], Tensor]:
        def layer(x: Tensor, part: str) -> Tensor:
            rule, left, right, bias = (
                self.values[f"{base}{part}.{name}"]
                for name in ("phm_rule", "W_left", "W_right", "b")
            )
            matrix = sum(torch.kron(rule[i], left[i] @ right[i]) for i in range(4))
            return x @ matrix + bias

        def change(x: Tensor, y: Tensor) -> Tensor:
            return y + layer(torch.relu(layer(y, "down_sampler")), "up_sampler")

        return change

    def __call__(self, texts: list[str]) -> Tensor:
        """Features ``(texts, dim)``, not normalised."""
        given = self.tokenizer(texts, padding=True, return_tensors="pt")
        ids, mask = given["input_ids"], given["attention_mask"]
        words = self.model.get_input_embeddings()(ids)
        if self.prompt is not None:
            own = self.prompt.expand(len(texts), -1, -1)
            words = torch.cat([words[:, :1], own, words[:, 1:]], dim=1)
            ones = mask.new_ones(len(texts), len(self.prompt))
            mask = torch.cat([mask[:, :1], ones, mask[:, 1:]], dim=1)
            # Ids do for the positions alone, which simply run on.
            hidden = self.model(inputs_embeds=words, attention_mask=mask)
        else:
            hidden = self.model(input_ids=ids, attention_mask=mask)
        states, counted = hidden.last_hidden_state, mask.unsqueeze(-1)
        pooled = (states * counted).sum(1) / counted.sum(1)
        return pooled @ self.head["weight"].T + self.head["bias"]


def cross_entropies(a: Tensor, b: Tensor) -> Tensor:
    scores = 100 * (a / a.norm(dim=-1, keepdim=True)) @ (b / b.norm(dim=-1, keepdim=True)).T
    rows = -scores.log_softmax(1).diagonal().mean()
    return (rows - scores.log_softmax(0).diagonal().mean()) / 2


def alignment(name: str, image: Tensor, text: Tensor, partner: Tensor) -> Tensor:
    if name == "mse":
        return ((text - partner) ** 2).mean()
    return cross_entropies(partner, text if name == "contrastive" else image)


def recall(images: Tensor, texts: Tensor) -> float:
    scores = F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T
    own = torch.arange(len(scores))
    hits = [(scores.argmax(way) == own).float().mean().item() for way in (0, 1)]
    return sum(hits) / 2


@dataclass
class Result:
    losses: list[float]
    scores: dict[int, float]
    best_step: int
    best: dict[str, Tensor]


def train(
    model: Released,
    features: dict[str, Tensor],
    given: list[str],
    trained: list[dict[str, str]],
    partners: dict[str, str] | None,
    loss_name: str,
    batches: Iterator[list[str]],
    validation: list[str],
    recipe: Recipe,
    seeds: Callable[[int], int],
) -> Result:
    total = recipe.epochs * math.ceil(len(given) / recipe.batch_size)
    optimiser = torch.optim.Adam(model.values.values(), lr=recipe.learning_rate)
    result, best = Result([], {}, 0, {}), -1.0
    for step, batch in zip(range(total), batches, strict=False):
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * (1 + math.cos(math.pi * step / total)) / 2
        model.model.train()
        torch.manual_seed(seeds(step))
        every = [model([texts[image] for image in batch]) for texts in trained]
        image = torch.stack([features[image] for image in batch])
        loss = torch.zeros(())
        for text in every:  # the halving of joint training sits inside the loop
            loss = loss / 2 + cross_entropies(image, text)
        loss = loss / len(every)
        if partners is not None:
            partner = model([partners[image] for image in batch])
            loss = loss + recipe.align_weight * alignment(loss_name, image, text, partner)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        result.losses.append(loss.item())
        if (step + 1) % 5 == 0:
            model.model.eval()
            seen = torch.stack([features[image] for image in validation])
            with torch.no_grad():
                found = [model([texts[image] for image in validation]) for texts in trained]
            score = round(sum(recall(seen, texts) for texts in found) / len(found), 4)
            result.scores[step + 1] = score
            if score >= best:
                best, result.best_step = score, step + 1
                result.best = {name: v.detach().clone() for name, v in model.values.items()}
    return result


def both(
    world: World, spec: DeltaSpec, strategy: str, loss: str, recipe: Recipe = RECIPE
) -> tuple[Outcome, Result]:
    given, trained, partner = ROUTINES[strategy]
    fields = dict(given)
    joint = fields.pop("joint", ())
    request = TrainingRequest(
        AlignmentRequest(
            world.language,
            shots=world.shots,
            split="paper",
            seed=SEED,
            allow_missing=True,
            **fields,
        ),
        delta=spec,
        joint=joint,
        recipe=replace(recipe, align_loss=LOSSES[loss], start="opendelta"),
    )
    workspace = world.workspace
    prepared = prepare(workspace, world.dataset, request)
    tower = workspace.backbone.text_tower
    delta = AdaptedTower(tower, spec, SEED, workspace.backbone.tokenizer, identity=False)
    model = Released(Path(workspace.backbone.identity.id), spec, delta.tensors())
    ours = fit(
        workspace.backbone,
        delta,
        prepared.pairs,
        request.recipe,
        SEED,
        prepared.validation,
        TrainingState(),
        lambda state: None,
        Silent().start("", 1),
    )
    pairs = build_alignment(workspace, world.dataset, request.alignment).pairs
    recorded = [pair.image for pair in pairs]
    assert {*recorded} == {*world.train}
    images = [*world.train, *world.validation]
    encoded = workspace.encode_pictures([world.dataset.picture_path(i) for i in images])
    theirs = train(
        model,
        dict(zip(images, encoded.features, strict=True)),
        recorded,
        [world.texts[texts] for texts in trained.split("+")],
        world.texts[partner] if partner else None,
        loss,
        (
            [recorded[i] for i in rows]
            for rows in rows_of_epochs(
                len(recorded), min(recipe.batch_size, len(recorded)), SEED, filled=False
            )
        ),
        world.validation,
        recipe,
        lambda step: random.Random(f"dropout-{SEED}-{step}").getrandbits(63),
    )
    return ours, theirs


def require_equal(ours: Outcome, theirs: Result, weights: float = 1e-5) -> None:
    assert len(ours.losses) == len(theirs.losses) >= 60
    torch.testing.assert_close(ours.losses, tuple(theirs.losses), atol=5e-5, rtol=0)
    measured = {e.step: round(e.mean_r1 / 100, 4) for e in ours.history[1:]}
    assert measured == theirs.scores
    assert ours.chosen is not None and ours.chosen.step == theirs.best_step
    assert ours.tensors.keys() == theirs.best.keys()
    for name, tensor in ours.tensors.items():
        torch.testing.assert_close(tensor, theirs.best[name], atol=weights, rtol=0, msg=name)


@pytest.mark.parametrize("strategy", ROUTINES)
def test_every_routine(small: World, strategy: str) -> None:
    recipe = replace(RECIPE, languages_weigh="halving")
    require_equal(*both(stored(small), KINDS["run_cross"], strategy, "mse", recipe))


@pytest.mark.parametrize("kind", ["lora", "adapter"])
def test_task_2_of_multi30k(task2: World, kind: str) -> None:
    """Caption 1 of five, for training, partner and validation alike."""
    require_equal(*both(task2, KINDS[kind], "method1", "mse"))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["method2", "method3"])
def test_on_photographs(photographs: World, strategy: str) -> None:
    assert len(photographs.train) >= 5 and len(photographs.validation) > 100
    require_equal(*both(stored(photographs), KINDS["run_cross"], strategy, "mse"))


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss(small: World, loss: str) -> None:
    recipe = replace(RECIPE, align_weight=0.5)
    require_equal(*both(small, KINDS["run_cross"], "method1", loss, recipe))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind(small: World, kind: str) -> None:
    weights = 1e-3 if kind == "everything" else 1e-5  # Adam makes much of tiny gradients
    require_equal(*both(small, KINDS[kind], "method1", "mse"), weights)


def test_the_masks_are_what_makes_the_difference(small: World) -> None:
    """Without dropout both are another training: the comparison above sees it."""
    ours, theirs = both(small, KINDS["run_cross"], "method1", "mse", replace(RECIPE, dropout=0.0))
    assert max(abs(a - b) for a, b in zip(ours.losses, theirs.losses, strict=True)) > 0.01
    assert PAPER.dropout == 0
