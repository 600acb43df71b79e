"""Your own captions in, a delta out, measured.

The CSV file has the columns image, caption and language; English captions of the same pictures
are what the new language is aligned with.

    python examples/own_captions.py captions.csv tr
"""

import sys
from pathlib import Path

from xclipt.data.registry import open_dataset
from xclipt.evaluation.evaluate import evaluate
from xclipt.progress import Silent
from xclipt.training.train import TrainingRequest, train_delta
from xclipt.workspace import open_workspace


def main(
    captions: str, language: str, artifacts: str = "xclipt-artifacts", shots: str = "50"
) -> None:
    workspace = open_workspace(Path(artifacts), Silent(), create=True)
    dataset = open_dataset(captions, None)

    delta = train_delta(workspace, dataset, TrainingRequest(language, shots=int(shots)))
    size = delta.manifest.weights.bytes / 1000
    print(f"{delta.manifest.name}: {size:.0f} kB in {delta.folder}")

    # Pictures that the delta was trained on are left out by themselves.
    for row in evaluate(workspace, dataset, ["en", language]).rows:
        print(
            f"  {row.language} {row.delta or 'base':24} R@1 {row.mean_r1:.1f} of {row.n} pictures"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
