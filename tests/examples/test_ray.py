"""The example for Ray: on two workers of which one is killed, the result is that of one process."""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import xclipt
from tests.factories.datasets import write_captions
from tests.factories.models import write_mclip_backbone
from tests.factories.running import run_xclipt
from tests.factories.tiny import WORDS
from xclipt.artifacts.manifest import MANIFEST, DeltaManifest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/ray/embed_and_train.py"
LANGUAGES, SEEDS = ("fr", "de"), (1, 2, 3)


@pytest.fixture
def data(tmp_path, make_picture):
    folder = tmp_path / "data"
    for i in range(16):
        make_picture(folder / f"images/{i}.png", f"rgb({i * 15},{255 - i * 15},{i * 5})", (30, 20))
    for language in ("en", *LANGUAGES):
        turned = 1 if language == "en" else -1
        texts = [" ".join(WORDS[i % 8 :: 5][::turned]) for i in range(16)]
        rows = [{"image": f"{i}.png", "captions": [text]} for i, text in enumerate(texts)]
        write_captions(folder, language, *rows)
    return folder


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as Ray's workers have for a processor each
    yield
    torch.set_num_threads(before)


def trained_here(artifacts, data):
    workspace, pictures = xclipt.open_workspace(artifacts), xclipt.open_dataset(str(data))
    for language in LANGUAGES:
        for seed in SEEDS:
            alignment = xclipt.AlignmentRequest(language, shots=8, seed=seed)
            xclipt.train_delta(workspace, pictures, xclipt.TrainingRequest(alignment))


def deltas(artifacts):
    """Manifests and weights by place, but for times."""
    found = {}
    for path in sorted(artifacts.glob(f"deltas/*/*/{MANIFEST}")):
        manifest = replace(DeltaManifest.read(path), seconds=0.0, created="")
        weights = (path.parent / manifest.weights.file).read_bytes()
        found[path.parent.relative_to(artifacts)] = (manifest, weights)
    return found


def test_the_example_is_short():
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) < 80


@pytest.mark.slow
def test_one_of_two_workers_is_killed_and_the_result_is_whole(
    tmp_path, data, one_thread, monkeypatch
):
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    write_mclip_backbone(tmp_path / "backbone")
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    xclipt.open_workspace(alone, backbone=str(tmp_path / "backbone"), create=True)
    shutil.copytree(alone, shared)
    trained_here(alone, data)

    monkeypatch.setenv("PYTHONPATH", f"{EXAMPLE.parents[2]}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # beside other tests 15 is nothing
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        cluster.add_node(num_cpus=1)
        doomed = cluster.add_node(num_cpus=1)
        arguments = {"artifacts": shared, "data": data, "lang": "fr,de", "seeds": "1,2,3"}
        arguments |= {"shots": 8, "out": tmp_path / "out"}
        options = [f"--{name}={value}" for name, value in arguments.items()]
        run = subprocess.Popen(
            [sys.executable, EXAMPLE, *options],
            env=os.environ | {"RAY_ADDRESS": cluster.address},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            while not deltas(shared) and run.poll() is None:
                time.sleep(0.05)
            there = len(deltas(shared))
            cluster.remove_node(doomed, allow_graceful=False)
            out, err = run.communicate(timeout=900)
        finally:
            run.kill()
    finally:
        cluster.shutdown()
    assert run.returncode == 0, err[-5000:]
    assert there < len(LANGUAGES) * len(SEEDS), "it was killed while there was work"
    assert "embedded 32 captions and 16 pictures" in out
    verified = run_xclipt("verify", "--artifacts", shared)
    assert verified.code == 0 and "no problems" in verified.out
    assert len(deltas(shared)) == 6 and deltas(shared) == deltas(alone)

    model = xclipt.load(alone, device="cpu")
    texts = pq.read_table(tmp_path / "out/texts").to_pylist()
    pictures = pq.read_table(tmp_path / "out/pictures").to_pylist()
    assert (len(texts), len(pictures)) == (32, 16)
    # Which of the seeds is current is the order in which they were done.
    for code in LANGUAGES:
        name = xclipt.ArtifactDirectory.open(shared).current(code).manifest.name
        assert run_xclipt("use", code, name, "--artifacts", alone).code == 0
    model.refresh()
    ours = model.encode_text([r["text"] for r in texts], [r["language"] for r in texts])
    np.testing.assert_allclose([r["features"] for r in texts], ours, atol=1e-5)
    ours = model.encode_image([r["path"] for r in pictures])
    np.testing.assert_allclose([r["features"] for r in pictures], ours, atol=1e-5)
