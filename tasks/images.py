"""
Make thumbnails of pictures that strangers uploaded.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - the payload contract reads the annotation
from typing import TYPE_CHECKING

from PIL import Image, ImageOps, UnidentifiedImageError

from celery_platform import Backoff, Dead, current_call, platform_task
from tasks.atomic import replacing

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Thumbnail", "make_thumbnails"]

# What a picture may unfold to: 64 million pixels are about 200 MB while it is being scaled.
_MOST_PIXELS = 64_000_000
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
_LARGEST_EDGE = 4096


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """One written picture; *width* and *height* are pixels."""

    path: Path
    width: int
    height: int


@platform_task(priority="low", retry=Backoff(on=OSError, attempts=4, first=2, ceiling=60), timeout=60)
def make_thumbnails(source: Path, folder: Path, edges: list[int] | None = None) -> list[Thumbnail]:
    """
    Write *source* into *folder* once for each of *edges* (pixels of the longer side; 128 and 512 by default).

    The picture is turned as its camera was held, never enlarged, and loses its metadata: a position must not travel
    with a profile picture. Each file appears whole, and a second run writes the same files again. A corrupt, missing or
    oversized picture buries the call; a full disk is tried again.
    """
    wanted = sorted(set(edges or (128, 512)), reverse=True)
    if not all(1 <= edge <= _LARGEST_EDGE for edge in wanted):
        raise Dead(f"edges expected 1 to {_LARGEST_EDGE} pixels, got {wanted}.")
    picture = _opened(source, wanted[0])
    made = []
    for done, thumbnail in enumerate(_written(picture, source.stem, folder, wanted), start=1):
        made.append(thumbnail)
        current_call().progress(done, len(wanted), thumbnail.path.name)
    return made


def _opened(source: Path, largest: int) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source, formats=_FORMATS) as file:
                if file.width * file.height > _MOST_PIXELS:
                    raise Dead(f"{source.name} unfolds to {file.width} x {file.height} pixels; too large.")
                # A JPEG is read at the smallest scale that still covers the largest thumbnail.
                file.draft(None, (largest, largest))
                return ImageOps.exif_transpose(file)
    except FileNotFoundError:
        raise Dead(f"{source} does not exist.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Dead(f"{source.name} unfolds to too many pixels.") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError) as corrupt:
        raise Dead(f"{source.name} is not a whole picture ({corrupt}).") from None


def _written(picture: Image.Image, stem: str, folder: Path, edges: list[int]) -> Iterator[Thumbnail]:
    see_through = picture.has_transparency_data
    kind, suffix = ("PNG", ".png") if see_through else ("JPEG", ".jpg")
    scaled = picture.convert("RGBA" if see_through else "RGB")
    # A profile describes the colours of its own mode only.
    profile = picture.info.get("icc_profile") if picture.mode == scaled.mode else None
    # From large to small: each starts from the one before, which costs a fraction of starting from the original.
    for edge in edges:
        scaled.thumbnail((edge, edge), Image.Resampling.LANCZOS, reducing_gap=3.0)
        bare = Image.frombytes(scaled.mode, scaled.size, scaled.tobytes())
        target = folder / f"{stem}-{edge}{suffix}"
        with replacing(target) as draft:
            bare.save(draft, format=kind, quality=85, optimize=True, icc_profile=profile)
        yield Thumbnail(target, *scaled.size)
