"""
Make `demo/data` again: ``python -m demo.dataset``.
"""

from __future__ import annotations

import gzip
import io
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from PIL import Image, ImageDraw

__all__ = ["FOLDER", "ORDERS", "SPOILT"]

FOLDER = Path(__file__).parent / "data"
ORDERS, SPOILT = 40_000, 16
_REGIONS = ("Andes", "Baltic", "Cascadia", "Danube", "Everglades", "Fjords")
_PRICES = {"compass": "12.50", "lantern": "29.90", "rope": "7.25", "stove": "54.00", "tent": "189.00"}
_SEED = 2026
_TURNED = 6  # EXIF: the camera stood on its right side


def main() -> None:
    """
    Write the orders and the pictures.
    """
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "orders.csv.gz").write_bytes(gzip.compress(_orders().encode(), mtime=0))
    exif = Image.Exif()
    exif[0x0112] = _TURNED
    _picture((1200, 800)).save(FOLDER / "harbour.jpg", quality=80, exif=exif)
    _picture((900, 900)).convert("RGBA").resize((300, 300)).save(FOLDER / "badge.png", optimize=True)
    whole = (FOLDER / "harbour.jpg").read_bytes()
    (FOLDER / "torn.jpg").write_bytes(whole[: len(whole) // 3])


def _orders() -> str:
    rng = random.Random(_SEED)  # noqa: S311 - sample data
    spoilt = set(rng.sample(range(ORDERS), SPOILT))
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    out = io.StringIO()
    out.write("order,placed,region,product,quantity,amount\n")
    for number in range(ORDERS):
        moment += timedelta(minutes=rng.choice((1, 5, 10, 15)))
        product = rng.choice(list(_PRICES))
        quantity = rng.choice((1, 1, 1, 2, 3))
        amount = "n/a" if number in spoilt else str(Decimal(_PRICES[product]) * quantity)
        out.write(f"{number},{moment:%Y-%m-%dT%H:%M},{rng.choice(_REGIONS)},{product},{quantity},{amount}\n")
    return out.getvalue()


def _picture(size: tuple[int, int]) -> Image.Image:
    width, height = size
    sky = Image.linear_gradient("L").resize(size)
    picture = Image.merge("RGB", (sky.point(lambda v: 255 - v // 2), sky.point(lambda v: 200 - v // 3), sky))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((width * 0.7, height * 0.1, width * 0.85, height * 0.1 + width * 0.15), fill=(255, 240, 180))
    draw.polygon([(0, height), (width * 0.3, height * 0.4), (width * 0.6, height)], fill=(40, 70, 90))
    draw.polygon([(width * 0.35, height), (width * 0.7, height * 0.5), (width, height)], fill=(60, 95, 110))
    return picture


if __name__ == "__main__":
    main()
