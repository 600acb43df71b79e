"""The split of the paper's released code (Zhang, Wang & Wang, Findings of EMNLP 2023)."""


def paper_split(n_items: int, shots: int, seed: int = 42) -> tuple[list[int], list[int], list[int]]:
    """Indices to train on, to validate on and to test on.

    ``torch.randperm`` of the items in their published order: the first ``shots`` are for training,
    the next ``shots`` for validation, the rest for testing.

    Raises:
        ValueError: There are not even items enough to train on.
    """
    import torch

    if not 0 < shots <= n_items:
        raise ValueError(f"{shots} shots of {n_items} items")
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = torch.randperm(n_items, generator=generator).tolist()
    return order[:shots], order[shots : 2 * shots], order[2 * shots :]
