"""A delta in the libraries that others use, PEFT and sentence-transformers; half a minute.

    xclipt train-delta --lang fr --shots 10
    pip install peft sentence-transformers
    python examples/other_libraries.py --lang fr

exports the current delta twice, loads each export with nothing but the library that it is for, and
holds their similarities against xclipt's own.
"""

import argparse
from pathlib import Path

import torch

import xclipt

CAPTIONS = ["un chien court dans l'herbe", "un chien dans un pré", "une tasse de café"]


def with_peft(tower: Path, adapter: Path, captions: list[str]) -> torch.Tensor:
    """Mean of the last hidden states ``(n, width)``: a transformers encoder with a PEFT adapter.

    The text head, an affine map into the space of the pictures, is not part of the encoder.
    """
    from peft import PeftModel
    from transformers import AutoModel, AutoTokenizer

    encoder = AutoModel.from_pretrained(tower, add_pooling_layer=False)
    encoder = PeftModel.from_pretrained(encoder, adapter).eval()
    tokens = AutoTokenizer.from_pretrained(tower)(
        [f"query: {caption}" for caption in captions],
        padding=True,
        return_tensors="pt",
        return_token_type_ids=False,
    )
    with torch.inference_mode():
        hidden = encoder(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(-1)
    pooled: torch.Tensor = (hidden * mask).sum(1) / mask.sum(1)
    return pooled


def with_sentence_transformers(folder: Path, captions: list[str]) -> torch.Tensor:
    """Features ``(n, dim)`` in the space of the pictures; prompt and head are in the folder."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    return model.encode(captions, convert_to_tensor=True)


def compare(workspace: xclipt.Workspace, language: str, out: Path) -> dict[str, torch.Tensor]:
    """Cosine similarities ``(n, n)`` of the captions, by the library that computed them."""
    delta = workspace.directory.current(language)
    if delta is None:
        raise SystemExit(f"no delta for {language}: run xclipt train-delta --lang {language}")
    backbone = workspace.backbone
    peft = xclipt.export_delta(delta, "peft", out / "peft", lambda: backbone)
    merged = xclipt.export_delta(delta, "merged", out / "merged", lambda: backbone)
    states = with_peft(xclipt.text_folder(backbone.identity.id), peft.path, CAPTIONS)
    with torch.inference_mode():
        features = {
            "xclipt": delta.within(backbone).encode_texts(CAPTIONS),
            "peft": backbone.text_tower.head(states),
            "sentence-transformers": with_sentence_transformers(merged.path, CAPTIONS),
        }
    normal = {name: torch.nn.functional.normalize(f) for name, f in features.items()}
    return {name: f @ f.T for name, f in normal.items()}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--artifacts", type=Path, default=Path("xclipt-artifacts"))
    parser.add_argument("--lang", default="fr")
    parser.add_argument("--out", type=Path, default=Path("exported"))
    given = parser.parse_args(arguments)
    workspace = xclipt.open_workspace(given.artifacts, xclipt.Lines())
    similarities = compare(workspace, given.lang, given.out)
    print("captions:", *CAPTIONS, sep="\n  ")
    for name, matrix in similarities.items():
        difference = (matrix - similarities["xclipt"]).abs().max()
        first = "  ".join(f"{value:.4f}" for value in matrix[0])
        print(f"{name:22} the first with each: {first}   (off by {difference:.0e})")


if __name__ == "__main__":
    main()
