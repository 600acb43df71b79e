"""Deltas that were not trained: the base with noise of a known size added."""

import torch

from xclipt.artifacts.directory import StoredDelta
from xclipt.artifacts.manifest import DeltaManifest, TrainingData, WeightsFile
from xclipt.deltas.injection import InjectedDelta
from xclipt.deltas.spec import LoraSpec
from xclipt.workspace import Workspace

HISTORY = [{"step": s, "mean_R@1": v, "MRR": 0.3} for s, v in ((0, 20.0), (10, 26.5), (20, 24.0))]


def store_noise(
    workspace: Workspace,
    language: str,
    name: str,
    noise: float,
    *,
    seed: int = 1,
    rank: int = 8,
    pictures: tuple[str, ...] = (),
) -> StoredDelta:
    """Store the identity delta plus ``noise`` times a normal draw; 0 changes no feature."""
    backbone = workspace.backbone
    spec = LoraSpec(rank=rank)
    injected = InjectedDelta(backbone.text_tower, spec, backbone.family, seed)
    tensors = injected.tensors()
    injected.remove()
    generator = torch.Generator().manual_seed(seed)
    manifest = DeltaManifest(
        language=language,
        name=name,
        kind="lora",
        setting={"rank": rank, "alpha": 16, "train_layernorm": True},
        weights=WeightsFile("", "", 0, 0),
        backbone=dict(vars(backbone.identity)),
        backbone_parameters=backbone.text_parameters,
        routine=1,
        text="target",
        recipe={"epochs": 3},
        seed=seed,
        data=TrainingData("emoji", "train", 10, 10, "f" * 64, "val", 2, pictures),
        steps=20,
        seconds=1.5,
        validation={
            **{"pictures": 40, "step": 10, "mean_R@1": 26.5, "MRR": 0.3},
            **{"base_mean_R@1": 20.0, "base_MRR": 0.2, "history": HISTORY},
        },
        versions={"xclipt": "0"},
        created="2026-01-01T00:00:00+00:00",
    )
    return workspace.directory.write_delta(
        manifest,
        {n: t + noise * torch.randn(t.shape, generator=generator) for n, t in tensors.items()},
    )
