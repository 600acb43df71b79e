"""One folder of pictures, asked in five languages: some ten seconds for a few hundred pictures.

xclipt train-delta --lang fr,de,ja --shots 50
python examples/search_five_languages.py photos xclipt-artifacts
"""

import argparse

import xclipt

QUERIES = {
    "fr": "un chien qui court",
    "de": "ein laufender Hund",
    "ja": "走っている犬",
    "ar": "كلب يجري",
    "en": "a running dog",
}


def main(folder: str, artifacts: str = "xclipt-artifacts") -> None:
    model = xclipt.load(artifacts, progress=xclipt.Lines())
    # Encodes what is new or has changed, and keeps it.
    index = xclipt.index_pictures(model.workspace, folder)
    print(f"{len(index.names):,} pictures")

    # Languages without a delta yet are searched with the frozen base, with a warning.
    features = model.encode_text([*QUERIES.values()], [*QUERIES], fallback="base")
    for (language, query), hits in zip(QUERIES.items(), index.search(features, top=3), strict=True):
        print(f"{language}  {query}:", ", ".join(f"{hit.name} ({hit.score:.2f})" for hit in hits))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", help="of pictures")
    parser.add_argument("artifacts", nargs="?", default="xclipt-artifacts", help="directory")
    main(**vars(parser.parse_args()))
