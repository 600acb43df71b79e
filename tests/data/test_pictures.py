import math
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from xclipt.data import pictures
from xclipt.data.dataset import CaptionedPicture, Dataset
from xclipt.data.pictures import (
    BrokenPicture,
    find_broken,
    load_picture,
    require_pictures,
    split_present,
)
from xclipt.errors import XcliptError

MakePicture = Callable[..., Path]


class Folder(Dataset):
    name, languages, splits = "folder", ("en",), ()

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def captions(self, language: str, split: str | None) -> list[CaptionedPicture]:
        return [CaptionedPicture(f"{number}.png", ("x",)) for number in range(6)]

    def picture_path(self, image: str) -> Path:
        return self.folder / image


def test_missing_pictures_are_split_off_in_order(tmp_path: Path, make_picture: MakePicture) -> None:
    dataset = Folder(tmp_path)
    for number in (4, 1):
        make_picture(tmp_path / f"{number}.png")
    present, missing = split_present(dataset, dataset.captions("en", None))
    assert [item.image for item in present] == ["1.png", "4.png"]
    assert [item.image for item in missing] == ["0.png", "2.png", "3.png", "5.png"]


def test_missing_pictures_are_counted_and_named(tmp_path: Path, make_picture: MakePicture) -> None:
    dataset = Folder(tmp_path)
    items = dataset.captions("en", None)
    with pytest.raises(XcliptError, match=r"all 6 pictures are missing .*0.png, 1.png, 2.png, ..."):
        require_pictures(dataset, items, allow_missing=True)
    make_picture(tmp_path / "1.png")
    with pytest.raises(XcliptError) as caught:
        require_pictures(dataset, items, allow_missing=False)
    assert str(caught.value) == (
        f"folder: 5 of 6 pictures are missing from {tmp_path} (0.png, 2.png, 3.png, ...); "
        "`allow_missing=True` goes on with the other 1"
    )
    assert dataset.notes == []
    for _ in range(2):
        assert [item.image for item in require_pictures(dataset, items, True)] == ["1.png"]
    assert dataset.notes == [
        f"folder: 5 of 6 pictures are missing from {tmp_path}; going on with the other 1"
    ]
    for item in items:
        make_picture(tmp_path / item.image)
    assert require_pictures(dataset, items, allow_missing=False) == items


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    half = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    half.putpixel((1, 0), (0, 0, 0, 0))
    half.save(tmp_path / "rgba.png")
    half.convert("LA").save(tmp_path / "la.png")
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([255, 0, 0, 0, 0, 0])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "p.png", transparency=1)
    for name in ("rgba.png", "la.png", "p.png"):
        picture = load_picture(tmp_path / name)
        assert picture.mode == "RGB"
        assert picture.getpixel((1, 0)) == (255, 255, 255)
        assert picture.getpixel((0, 0)) != (255, 255, 255)


def write_tiff(path: Path, mode: str, samples: list[float]) -> Path:
    picture = Image.new(mode, (len(samples), 1))
    picture.putdata(samples)
    picture.save(path)
    with Image.open(path) as saved:
        assert saved.mode == mode
    return path


def test_16_bit_grey_keeps_its_shades(tmp_path: Path) -> None:
    grey = Image.new("I;16", (2, 1), 32768)
    grey.putpixel((1, 0), 65535)
    grey.save(tmp_path / "grey.png")
    picture = load_picture(tmp_path / "grey.png")
    assert [picture.getpixel((x, 0)) for x in (0, 1)] == [(128,) * 3, (255,) * 3]


@pytest.mark.parametrize(
    ("mode", "samples", "grey"),
    [
        ("I", [0, 100, 255], [0, 100, 255]),
        ("I", [0, 32768, 65535], [0, 128, 255]),
        ("F", [0.0, 0.5, 1.0], [0, 127, 255]),
        ("F", [0.0, 100.0, 255.0], [0, 100, 255]),
    ],
)
def test_32_bits_are_scaled_by_what_the_samples_span(
    tmp_path: Path, mode: str, samples: list[float], grey: list[int]
) -> None:
    picture = load_picture(write_tiff(tmp_path / "x.tiff", mode, samples))
    assert [picture.getpixel((x, 0)) for x in range(3)] == [(shade,) * 3 for shade in grey]


@pytest.mark.parametrize(
    ("mode", "samples", "reason"),
    [
        ("I", [-5, 0, 9], "its samples go from -5 to 9"),
        ("I", [0, 0, 70_000], "its samples go from 0 to 70000; save it with 8 or 16 bits"),
        ("F", [0.5, math.nan, 1.0], "its samples go from nan to nan"),
        ("F", [0.0, 1.0, math.inf], "its samples go from 0 to inf"),
        ("F", [0.0, 1.0, 300.0], "its samples go from 0 to 300"),
        ("F", [0.5, 0.5, 0.5], "every sample is 0.5"),
    ],
)
def test_32_bits_that_are_no_shades_are_broken(
    tmp_path: Path, mode: str, samples: list[float], reason: str
) -> None:
    path = write_tiff(tmp_path / "x.tiff", mode, samples)
    with pytest.raises(XcliptError, match=re.escape(f"{path}: broken image ({reason}")):
        load_picture(path)


@pytest.mark.parametrize("mode", ["1", "L", "CMYK", "YCbCr", "RGB", "I"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (3, 2)).save(tmp_path / "x.tiff")
    picture = load_picture(tmp_path / "x.tiff")
    assert (picture.mode, picture.size) == ("RGB", (3, 2))


def test_exif_orientation_is_honoured(tmp_path: Path) -> None:
    picture = Image.new("RGB", (8, 4))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=exif)
    assert load_picture(tmp_path / "turned.jpg").size == (4, 8)


def test_broken_pictures_are_named(tmp_path: Path, make_picture: MakePicture) -> None:
    good = make_picture(tmp_path / "good.jpg", size=(300, 200))
    data = good.read_bytes()
    contents = {
        "text.jpg": b"<html>not found</html>",
        "empty.jpg": b"",
        "cut.jpg": data[: len(data) // 2],
        "head.jpg": data[:30],
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    png = make_picture(tmp_path / "cut.png", size=(300, 200)).read_bytes()
    (tmp_path / "cut.png").write_bytes(png[:60])
    (tmp_path / "folder.jpg").mkdir()
    bad = [tmp_path / name for name in (*contents, "cut.png", "folder.jpg", "missing.jpg")]
    for path in bad:
        with pytest.raises(XcliptError) as caught:
            load_picture(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
    broken = find_broken([good, *bad])
    assert [one.path for one in broken] == bad
    assert broken[0] == BrokenPicture(tmp_path / "text.jpg", "not an image; replace or remove it")


def test_decompression_bombs_are_refused_unopened(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    for width in (10_000, 60_000):
        header = struct.pack(">IIBBBBB", width, 10_000, 8, 2, 0, 0, 0)
        path = tmp_path / f"{width}.png"
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b""))
        with pytest.raises(XcliptError, match=r"png: more than 89,478,485 pixels"):
            load_picture(path)
    assert not recwarn.list


def test_a_real_photograph(data_root: Path) -> None:
    picture = load_picture(data_root / "flickr30k-images" / "1000268201.jpg")
    assert (picture.mode, picture.size) == ("RGB", (224, 224))


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def without_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow as it comes, whatever is installed beside it."""
    plain = {".jpg", ".jpe", ".png", ".jp2"}
    monkeypatch.setattr(pictures, "picture_suffixes", lambda: frozenset(plain))


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.heic", HEIC, "cannot read .heic; `pip install pillow-heif`"),
        ("a.HEIC", b"junk", "cannot read .heic; `pip install pillow-heif`"),
        ("a.jpg", HEIC, "cannot read .heic; `pip install pillow-heif`"),
        ("a.jxl", b"junk", "cannot read .jxl; `pip install pillow-jxl-plugin`"),
        ("a.nef", b"junk", "cannot read .nef; convert it to JPEG"),
        ("a.jpg", b"junk", "not an image; replace or remove it"),
    ],
)
def test_pictures_that_another_package_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, data: bytes, says: str
) -> None:
    without_plugins(monkeypatch)
    (tmp_path / name).write_bytes(data)
    (broken,) = find_broken([tmp_path / name])
    assert broken.reason.removeprefix("Pillow alone ") == says


@pytest.mark.parametrize("suffix", [".jpe", ".jp2", ".j2k", ".bmp", ".tga", ".qoi", ".avif"])
def test_whatever_pillow_opens_is_a_picture(tmp_path: Path, suffix: str) -> None:
    assert suffix in pictures.picture_suffixes()
    path = tmp_path / f"a{suffix}"
    Image.new("RGB", (32, 32), "red").save(path)
    red, green, blue = load_picture(path).getpixel((3, 3))  # type: ignore[misc]
    assert red > 240 and green < 15 and blue < 15


def test_files_that_are_no_photographs_are_no_pictures() -> None:
    assert not {".pdf", ".eps", ".mpg", ".h5", ".txt", ".csv"} & pictures.picture_suffixes()


def test_heic_is_read_where_its_package_is(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    data = Image.new("RGB", (64, 64), "red").tobytes()
    for name in ("a.heic", "b.jpg"):
        heif.encode("RGB", (64, 64), data, tmp_path / name, quality=90)
        red, green, _ = load_picture(tmp_path / name).getpixel((3, 3))  # type: ignore[misc]
        assert red > 230 and green < 25
    assert ".heic" in pictures.picture_suffixes()
