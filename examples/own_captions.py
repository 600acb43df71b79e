"""Your own captions in, a delta out, measured; half a minute for 50 shots on two cores.

The CSV file has the columns image, caption and language; English captions of the same pictures
are what the new language is aligned with.

    python examples/own_captions.py captions.csv tr
"""

import argparse

import xclipt


def main(
    captions: str, language: str, artifacts: str = "xclipt-artifacts", shots: str = "50"
) -> None:
    workspace = xclipt.open_workspace(artifacts, xclipt.Lines(), create=True)
    dataset = xclipt.open_dataset(captions)

    pairs = xclipt.AlignmentRequest(language, shots=int(shots))
    delta = xclipt.train_delta(workspace, dataset, xclipt.TrainingRequest(pairs))
    size = delta.manifest.weights.bytes / 1000
    print(f"{delta.manifest.name}: {size:.0f} kB in {delta.folder}")

    # Pictures that the delta was trained on are left out by themselves.
    result = xclipt.evaluate(workspace, dataset, xclipt.EvaluationRequest(["en", language]))
    for row in result.rows:
        print(f"  {row.language} {row.system:24} R@1 {row.mean_r1:.1f} of {row.n} pictures")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("captions", help="the CSV file, or any other data set")
    parser.add_argument("language", help="the new language's code")
    parser.add_argument("artifacts", nargs="?", default="xclipt-artifacts", help="directory")
    parser.add_argument("shots", nargs="?", default="50", help="pictures to train on")
    main(**vars(parser.parse_args()))
