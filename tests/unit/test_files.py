"""Where a file cannot go, one line says so."""

from __future__ import annotations

import pytest

from palate.errors import StorageError
from palate.files import write_text


@pytest.mark.parametrize("place", ["taken/below.txt", "folder"])
def test_a_file_in_the_way_and_a_folder_in_the_way(tmp_path, place):
    (tmp_path / "taken").write_text("mine")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="cannot be written"):
        write_text(tmp_path / place, "text")
    assert (tmp_path / "taken").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "taken"]
