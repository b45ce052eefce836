from __future__ import annotations

import gzip

from demo.dataset import FOLDER, ORDERS, SPOILT, _orders


def test_the_shipped_orders_are_those_the_generator_makes():
    shipped = gzip.decompress((FOLDER / "orders.csv.gz").read_bytes()).decode()

    assert shipped == _orders()
    assert len(shipped.splitlines()) == ORDERS + 1
    assert shipped.count("n/a") == SPOILT
