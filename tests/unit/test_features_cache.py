"""The cache of vectors: nothing twice, nothing half, nothing wrong."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from palate.errors import InputError, StorageError
from palate.features import Featurizer, embed_items
from palate.features import cache as cache_module
from palate.features.cache import FeatureCache


class Counting(Featurizer):
    """Two numbers per text; keeps what it was asked, and can fail at a text."""

    name = "counting"
    fingerprint = "c" * 32
    dim = 2

    def __init__(self, fails_at=None, uses_prompt=True):
        self.asked = []
        self.fails_at = fails_at
        self.uses_prompt = uses_prompt

    def embed(self, items, *, progress=None):
        if self.fails_at is not None and self.fails_at in items:
            raise KeyboardInterrupt
        self.asked.extend(items)
        return vectors(items)


def vectors(items):
    return np.array([[hash_of(p), hash_of(r)] for p, r in items], np.float32).reshape(-1, 2)


def hash_of(text):
    return sum(map(ord, text)) % 997


def items(count):
    return [(f"prompt {i % 7}", f"reply {i} " + "x" * (i % 50)) for i in range(count)]


def test_a_second_run_embeds_nothing_and_gives_the_same(tmp_path):
    first, second = Counting(), Counting()
    texts = items(500)
    one = embed_items(first, texts, cache=tmp_path)
    two = embed_items(second, texts[::-1], cache=tmp_path)
    np.testing.assert_array_equal(one, vectors(texts))
    np.testing.assert_array_equal(two, one[::-1])
    assert len(first.asked) == 500 and second.asked == []


def test_only_what_is_new_is_embedded_and_repeats_once(tmp_path):
    embed_items(Counting(), items(50), cache=tmp_path)
    more = Counting()
    texts = items(60) + items(60)
    np.testing.assert_array_equal(embed_items(more, texts, cache=tmp_path), vectors(texts))
    assert sorted(more.asked) == sorted(items(60)[50:])


def test_prompts_count_only_where_they_are_read():
    texts = [("a", "same"), ("b", "same")]
    reads, ignores = Counting(), Counting(uses_prompt=False)
    embed_items(reads, texts, cache=False)
    embed_items(ignores, texts, cache=False)
    assert len(reads.asked) == 2 and len(ignores.asked) == 1


def test_where_the_prompt_ends_matters(tmp_path):
    counting = Counting()
    embed_items(counting, [("ab", "c"), ("a", "bc"), ("", "abc")], cache=tmp_path)
    assert len(counting.asked) == 3


def test_other_settings_have_another_folder(tmp_path):
    other = Counting()
    other.fingerprint = "d" * 32
    embed_items(Counting(), items(3), cache=tmp_path)
    embed_items(other, items(3), cache=tmp_path)
    assert len(other.asked) == 3 and len(list(tmp_path.iterdir())) == 2


def test_default_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path))
    embed_items(Counting(), items(3))
    assert len(list((tmp_path / "features" / ("c" * 32)).iterdir())) == 1


def test_what_was_finished_before_ctrl_c_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "_BLOCK", (10, 10))
    texts = items(100)
    shortest = min(texts, key=lambda item: len(item[0]) + len(item[1]))
    with pytest.raises(KeyboardInterrupt):
        embed_items(Counting(fails_at=shortest), texts, cache=tmp_path)
    again = Counting()
    np.testing.assert_array_equal(embed_items(again, texts, cache=tmp_path), vectors(texts))
    assert len(again.asked) == 10


def test_blocks_grow_with_speed_up_to_their_limit():
    counting = Counting()
    blocks = []
    embed = counting.embed
    counting.embed = lambda part, progress: blocks.append(len(part)) or embed(part)
    embed_items(counting, items(20_000), cache=False)
    assert blocks[0] == 16 and max(blocks) == 8192 and sum(blocks) == 20_000


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "rubbish", "other"])
def test_a_broken_shard_is_dropped_and_embedded_again(tmp_path, damage):
    texts = items(30)
    embed_items(Counting(), texts[:12], cache=tmp_path)
    (broken,) = (tmp_path / ("c" * 32)).iterdir()
    embed_items(Counting(), texts, cache=tmp_path)
    blob = bytearray(broken.read_bytes())
    if damage == "flip":
        blob[-3] ^= 64
    broken.write_bytes(
        {"flip": bytes(blob), "cut": bytes(blob[:-9]), "empty": b"", "rubbish": b"\xff" * 99}.get(damage, b'{"a": 1}')
    )
    again = Counting()
    np.testing.assert_array_equal(embed_items(again, texts, cache=tmp_path), vectors(texts))
    assert sorted(again.asked) == sorted(texts[:12])
    last = Counting()
    embed_items(last, texts, cache=tmp_path)
    assert last.asked == [] and not broken.exists()


def test_writers_at_the_same_time_do_not_clash(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "_BLOCK", (7, 7))
    texts = items(210)
    results = {}

    def work(number):
        results[number] = embed_items(Counting(), texts[number * 30 : number * 30 + 90], cache=tmp_path)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, result in results.items():
        np.testing.assert_array_equal(result, vectors(texts[number * 30 : number * 30 + 90]))
    last = Counting()
    np.testing.assert_array_equal(embed_items(last, texts, cache=tmp_path), vectors(texts))
    assert last.asked == []


def test_a_full_disk_is_said_and_leaves_nothing_half(tmp_path, monkeypatch):
    import errno
    from pathlib import Path

    def full(self, blob):
        with self.open("wb") as file:
            file.write(blob[: len(blob) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    embed_items(Counting(), items(5), cache=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(StorageError, match="disk is full"):
            embed_items(Counting(), items(10), cache=tmp_path)
    assert len(list((tmp_path / ("c" * 32)).iterdir())) == 1
    again = Counting()
    embed_items(again, items(10), cache=tmp_path)
    assert len(again.asked) == 5


def test_many_small_shards_become_one(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "_BLOCK", (5, 5))
    texts = items(400)
    embed_items(Counting(), texts, cache=tmp_path)
    assert len(list((tmp_path / ("c" * 32)).iterdir())) == 1
    again = Counting()
    np.testing.assert_array_equal(embed_items(again, texts, cache=tmp_path), vectors(texts))
    assert again.asked == []


def test_a_hundred_thousand_vectors_load_in_seconds(tmp_path):
    cache = FeatureCache("e" * 32, tmp_path)
    rng = np.random.default_rng(0)
    for _ in range(10):
        keys = [row.tobytes() for row in rng.integers(0, 256, (10_000, 16), dtype=np.uint8)]
        cache.write(keys, rng.standard_normal((10_000, 64), dtype=np.float32))
    started = time.perf_counter()
    rows, table = cache.read()
    assert len(rows) == len(table) == 100_000
    assert time.perf_counter() - started < 10


@pytest.mark.parametrize("bad", [np.zeros((3, 3), np.float32), np.full((3, 2), np.nan, np.float32)])
def test_featurizers_that_break_their_promise_are_not_cached(tmp_path, bad):
    counting = Counting()
    counting.embed = lambda part, progress: bad
    with pytest.raises(InputError, match="it must give finite"):
        embed_items(counting, items(3), cache=tmp_path)
    assert list(tmp_path.rglob("*.safetensors")) == []


def test_vectors_of_another_width_under_the_same_name_are_refused(tmp_path):
    embed_items(Counting(), items(3), cache=tmp_path)
    FeatureCache("c" * 32, tmp_path).write([b"k" * 16], np.zeros((1, 5), np.float32))
    with pytest.raises(InputError, match="remove this folder"):
        embed_items(Counting(), items(3), cache=tmp_path)


def test_progress_counts_the_missing_texts(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "_BLOCK", (10, 10))
    embed_items(Counting(), items(5), cache=tmp_path)

    class Telling(Counting):
        def embed(self, part, *, progress):
            progress(len(part), len(part), "telling")
            return super().embed(part)

    seen = []
    embed_items(Telling(), items(35), cache=tmp_path, progress=lambda *step: seen.append(step))
    assert seen == [(10, 30, "telling"), (20, 30, "telling"), (30, 30, "telling")]
