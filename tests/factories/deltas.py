"""Deltas that were not trained: fresh ones with noise of a known size added."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from xclipt.artifacts.directory import ArtifactDirectory, StoredDelta
from xclipt.artifacts.manifest import DeltaManifest, TrainingData, WeightsFile
from xclipt.backbones.backbone import Backbone
from xclipt.backbones.identity import BackboneIdentity
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.kind import DeltaSpec
from xclipt.deltas.lora import LoraSpec
from xclipt.progress import Silent
from xclipt.workspace import Workspace

HISTORY = [{"step": s, "mean_R@1": v, "MRR": 0.3} for s, v in ((0, 20.0), (10, 26.5), (20, 24.0))]


def shaken(delta: AdaptedTower, noise: float = 0.1, seed: int = 0) -> dict[str, Tensor]:
    """The delta's tensors with ``noise`` times a normal draw added."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: tensor + noise * torch.randn(tensor.shape, generator=generator)
        for name, tensor in delta.tensors().items()
    }


def store_noise(
    workspace: Workspace,
    language: str,
    name: str,
    noise: float,
    *,
    seed: int = 1,
    spec: DeltaSpec | None = None,
    pictures: tuple[str, ...] = (),
) -> StoredDelta:
    """Store a fresh delta with noise; 0 changes no feature, where the kind is the identity."""
    backbone, spec = workspace.backbone, spec or LoraSpec()
    manifest = made_manifest(backbone.identity, spec, language, name, seed, pictures)
    manifest = replace(manifest, backbone_parameters=backbone.text_parameters)
    delta = AdaptedTower(backbone.text_tower, spec, seed)
    return store(workspace.directory, manifest, shaken(delta, noise, seed))


def store_shaken(
    root: Path,
    backbone: Backbone,
    spec: DeltaSpec,
    language: str = "fr",
    name: str = "shaken",
    noise: float = 0.05,
) -> StoredDelta:
    """As :func:`store_noise`, in the directory at ``root``."""
    directory, _ = ArtifactDirectory.open_or_create(root, backbone.identity)
    workspace = Workspace(directory, backbone, Silent())
    return store_noise(workspace, language, name, noise, spec=spec)


def store(
    directory: ArtifactDirectory,
    manifest: DeltaManifest,
    tensors: Mapping[str, Tensor],
    *,
    make_current: bool = True,
) -> StoredDelta:
    """Store tensors under a manifest that is told of them here."""
    return directory.write_delta(*manifest.packed(tensors), make_current=make_current)


def made_manifest(
    backbone: BackboneIdentity,
    spec: DeltaSpec,
    language: str = "fr",
    name: str = "lora-10shot-seed1",
    seed: int = 1,
    pictures: tuple[str, ...] = (),
) -> DeltaManifest:
    """What a training might have left, of weights that are yet to come."""
    return DeltaManifest(
        language=language,
        name=name,
        kind=spec.kind,
        setting=asdict(spec),
        weights=WeightsFile("", "", 0, 0),
        backbone=backbone.plain(),
        backbone_parameters=1000,
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
