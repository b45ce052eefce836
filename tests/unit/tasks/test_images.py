from __future__ import annotations

import struct
import zlib

import pytest
from PIL import Image

from celery_platform import Dead
from tasks.images import make_thumbnails


def _photo(path, size=(1200, 800), **options):
    Image.linear_gradient("L").resize(size).convert("RGB").save(path, **options)
    return path


def test_each_edge_gets_its_picture_in_the_proportions_of_the_original(tmp_path):
    made = make_thumbnails(_photo(tmp_path / "photo.jpg"), tmp_path / "out", [64, 256])

    assert sorted((one.path.name, one.width, one.height) for one in made) == [
        ("photo-256.jpg", 256, 171),
        ("photo-64.jpg", 64, 43),
    ]
    for one in made:
        with Image.open(one.path) as picture:
            assert picture.size == (one.width, one.height)


def test_a_picture_is_turned_as_its_camera_was_held_and_forgets_where_it_was_taken(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera stood on its side
    exif.get_ifd(0x8825)[1] = "N"
    source = _photo(tmp_path / "photo.jpg", exif=exif)

    made = make_thumbnails(source, tmp_path / "out", [300])

    assert (made[0].width, made[0].height) == (200, 300)
    with Image.open(made[0].path) as picture:
        assert not picture.getexif()
        assert "exif" not in picture.info


def test_a_small_picture_is_not_enlarged(tmp_path):
    made = make_thumbnails(_photo(tmp_path / "photo.png", (40, 20)), tmp_path / "out", [128])

    assert (made[0].width, made[0].height) == (40, 20)


def test_transparency_survives(tmp_path):
    Image.new("RGBA", (100, 100), (255, 0, 0, 0)).save(tmp_path / "logo.png")

    made = make_thumbnails(tmp_path / "logo.png", tmp_path / "out", [50])

    with Image.open(made[0].path) as picture:
        assert (picture.format, picture.getpixel((10, 10))[3]) == ("PNG", 0)


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1"])
def test_every_kind_of_colour_can_be_scaled(tmp_path, mode):
    Image.new(mode, (100, 100)).save(tmp_path / "photo.jpg" if mode in {"L", "CMYK"} else tmp_path / "photo.png")

    assert make_thumbnails(next(tmp_path.glob("photo.*")), tmp_path / "out", [10])[0].width == 10


def test_a_second_run_writes_the_same_files(tmp_path):
    source = _photo(tmp_path / "photo.jpg")
    first = [one.path.read_bytes() for one in make_thumbnails(source, tmp_path / "out")]
    again = make_thumbnails(source, tmp_path / "out")

    assert [one.path.read_bytes() for one in again] == first
    assert len(list((tmp_path / "out").iterdir())) == len(again)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_what_is_no_picture_is_dead(tmp_path, content):
    (tmp_path / "photo.jpg").write_bytes(content)

    with pytest.raises(Dead, match="not a whole picture"):
        make_thumbnails(tmp_path / "photo.jpg", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_half_a_picture_is_dead(tmp_path, suffix):
    source = _photo(tmp_path / f"photo.{suffix}")
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])

    with pytest.raises(Dead, match="not a whole picture"):
        make_thumbnails(source, tmp_path / "out")


def test_a_small_file_that_unfolds_to_a_huge_picture_is_dead_before_it_is_unfolded(tmp_path):
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    (tmp_path / "bomb.png").write_bytes(png)

    with pytest.raises(Dead, match="unfolds to"):
        make_thumbnails(tmp_path / "bomb.png", tmp_path / "out")


def test_a_missing_picture_is_dead(tmp_path):
    with pytest.raises(Dead, match="does not exist"):
        make_thumbnails(tmp_path / "none.jpg", tmp_path / "out")


@pytest.mark.parametrize("edge", [0, -1, 100_000])
def test_an_edge_nobody_can_want_is_dead(tmp_path, edge):
    with pytest.raises(Dead, match="edges expected"):
        make_thumbnails(_photo(tmp_path / "photo.jpg"), tmp_path / "out", [edge])
