"""Features of texts in several languages from one model; about ten seconds.

xclipt train-delta --lang fr,de --shots 50
python examples/quickstart.py xclipt-artifacts
"""

import argparse

import xclipt


def main(artifacts: str = "xclipt-artifacts") -> None:
    model = xclipt.load(artifacts, progress=xclipt.Lines())

    # One call, three languages: each text goes through its own delta, English through the base.
    texts = ["un chat noir", "eine schwarze Katze", "a black cat"]
    features = model.encode_text(texts, language=["fr", "de", "en"])
    print(f"{features.shape[0]} texts, {features.shape[1]} numbers each; cosines:")
    for text, row in zip(texts, features @ features.T, strict=True):
        print(f"  {text:20}", "  ".join(f"{cosine:.2f}" for cosine in row))

    # How texts are encoded. A language without a delta has to be allowed to fall back.
    for text, how in zip(texts, model.resolve(texts, ["fr", "de", "nl"]), strict=True):
        print(f"  {text:20}", how.language, how.delta or "frozen base", "!" * how.fallback)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artifacts", nargs="?", default="xclipt-artifacts", help="directory")
    main(**vars(parser.parse_args()))
