"""Deltas that were not trained: the base with noise of a known size added."""

from dataclasses import asdict
from pathlib import Path

import torch

from xclipt.artifacts.directory import ArtifactDirectory, StoredDelta
from xclipt.artifacts.manifest import DeltaManifest, TrainingData, WeightsFile
from xclipt.backbones.backbone import Backbone
from xclipt.deltas.injection import InjectedDelta
from xclipt.deltas.spec import DeltaSpec, LoraSpec
from xclipt.workspace import Workspace

HISTORY = [{"step": s, "mean_R@1": v, "MRR": 0.3} for s, v in ((0, 20.0), (10, 26.5), (20, 24.0))]


def store_noise(
    workspace: Workspace,
    language: str,
    name: str,
    noise: float,
    *,
    seed: int = 1,
    spec: LoraSpec | None = None,
    pictures: tuple[str, ...] = (),
) -> StoredDelta:
    """Store the identity delta plus ``noise`` times a normal draw; 0 changes no feature."""
    backbone = workspace.backbone
    spec = spec or LoraSpec()
    tensors = _noisy(backbone, spec, noise, seed)
    return workspace.directory.write_delta(
        _manifest(backbone, spec, language, name, seed, pictures), tensors
    )


def store_shaken(
    root: Path,
    backbone: Backbone,
    spec: DeltaSpec,
    language: str = "fr",
    name: str = "shaken",
    noise: float = 0.05,
) -> StoredDelta:
    """Store a delta of any kind, ``noise`` away from a fresh one, in the directory at ``root``."""
    directory, _ = ArtifactDirectory.open_or_create(root, backbone.identity)
    return directory.write_delta(
        _manifest(backbone, spec, language, name, 1, ()), _noisy(backbone, spec, noise, 1)
    )


def _noisy(backbone: Backbone, spec: DeltaSpec, noise: float, seed: int) -> dict[str, torch.Tensor]:
    injected = InjectedDelta(backbone.text_tower, spec, backbone.family, seed)
    tensors = injected.tensors()
    injected.remove()
    generator = torch.Generator().manual_seed(seed)
    return {n: t + noise * torch.randn(t.shape, generator=generator) for n, t in tensors.items()}


def _manifest(
    backbone: Backbone,
    spec: DeltaSpec,
    language: str,
    name: str,
    seed: int,
    pictures: tuple[str, ...],
) -> DeltaManifest:
    return DeltaManifest(
        language=language,
        name=name,
        kind=spec.kind,
        setting=asdict(spec),
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
