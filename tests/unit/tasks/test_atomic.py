from __future__ import annotations

import pytest

from tasks.atomic import replacing


def test_a_block_that_ends_well_puts_the_new_file_in_place(tmp_path):
    target = tmp_path / "made" / "file"
    with replacing(target) as draft:
        draft.write_text("new")
        assert not target.exists()

    assert target.read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")

    def half_written():
        with replacing(target) as draft:
            draft.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half_written()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_file_belongs_to_its_owner_alone(tmp_path):
    with replacing(tmp_path / "secret") as draft:
        draft.write_text("s")

    assert (tmp_path / "secret").stat().st_mode & 0o077 == 0
