"""Laws of the data layer on data that hypothesis makes up: odd texts, few people, any order."""

import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palate.data import PROTOCOLS, find_repeats, read, split, trl_frame, write, write_trl
from palate.data.text import normal_form
from palate.errors import DataError, SplitError

law = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

texts = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12).filter(lambda text: text.strip())
labels = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1).map(lambda value: round(value, 4)))


@st.composite
def tables(draw, min_rows=1, max_rows=25):
    """Good rows over a small pool of people and texts, so that they repeat."""
    people = draw(st.lists(texts, min_size=1, max_size=5, unique=True))
    prompts = draw(st.lists(texts, min_size=1, max_size=3, unique=True))
    replies = draw(st.lists(texts, min_size=2, max_size=6, unique_by=str.strip))
    with_time, with_weight = draw(st.booleans()), draw(st.booleans())
    rows = []
    for _ in range(draw(st.integers(min_rows, max_rows))):
        left, right = draw(st.sampled_from([(a, b) for a in replies for b in replies if a != b]))
        row = {
            "user": draw(st.sampled_from(people)),
            "prompt": draw(st.sampled_from(prompts)),
            "left": left,
            "right": right,
            "label": draw(labels),
        }
        if with_time:
            row["time"] = float(draw(st.integers(0, 2**31)))
        if with_weight:
            row["weight"] = draw(st.integers(0, 1000)) / 8
        rows.append(row)
    return rows


def shuffled(rows, seed):
    return [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]


@given(tables(), st.sampled_from([".csv", ".jsonl", ".parquet"]))
@law
def test_writing_and_reading_change_nothing(tmp_path, rows, extension):
    dataset = read(rows)
    back = read(write(dataset, tmp_path / f"a{extension}").path)
    assert back.fingerprint == dataset.fingerprint
    assert back.users == dataset.users
    np.testing.assert_array_equal(back.left, dataset.left)
    np.testing.assert_array_equal(back.item_keys(), dataset.item_keys())


@given(tables(), st.integers(0, 9))
@law
def test_the_order_of_rows_changes_no_number(rows, seed):
    first, second = read(rows), read(shuffled(rows, seed))
    assert (first.users, first.prompts, first.responses) == (second.users, second.prompts, second.responses)
    np.testing.assert_array_equal(first.item_keys(), second.item_keys())
    np.testing.assert_array_equal(first.counts(), second.counts())
    assert find_repeats(first) == find_repeats(second)
    assert sorted(first.to_frame().rows()) == sorted(second.to_frame().rows())


@given(tables())
@law
def test_swapping_sides_changes_the_label_only(rows):
    dataset = read(rows)
    swapped = read([{**row, "left": row["right"], "right": row["left"], "label": 1 - row["label"]} for row in rows])
    np.testing.assert_array_equal(swapped.left, dataset.right)
    np.testing.assert_array_equal(swapped.item_keys(), dataset.item_keys())
    np.testing.assert_allclose(swapped.label, 1 - dataset.label)
    assert find_repeats(swapped) == find_repeats(dataset)
    assert sorted(trl_frame(swapped).rows()) == sorted(trl_frame(dataset).rows())


@given(tables())
@law
def test_chosen_and_rejected_survive_the_way_there_and_back(tmp_path, rows):
    dataset = read(rows)
    if (dataset.label == 0.5).all():
        with pytest.raises(DataError, match="ties"):
            write_trl(dataset, tmp_path / "a.jsonl")
        return
    back = read(write_trl(dataset, tmp_path / "a.jsonl").path)
    columns = ["prompt", "chosen", "rejected", "user_id"]
    assert sorted(trl_frame(back).select(columns).rows()) == sorted(trl_frame(dataset).select(columns).rows())


@given(tables(min_rows=2), st.data())
@law
def test_a_subset_is_what_reading_its_rows_gives(rows, data):
    dataset = read(rows)
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=8, unique=True))
    part = dataset.subset(np.array(chosen))
    again = read([rows[i] for i in chosen])
    assert part.users == again.users and part.responses == again.responses
    np.testing.assert_array_equal(part.left, again.left)
    np.testing.assert_array_equal(part.label, again.label)


@given(tables(max_rows=12), st.data())
@law
def test_bad_rows_are_found_wherever_they_stand(rows, data):
    spoil = data.draw(
        st.dictionaries(st.integers(0, len(rows) - 1), st.sampled_from(["label", "left", "user"]), max_size=6)
    )
    broken = [{**row, spoil[i]: None} if i in spoil else row for i, row in enumerate(rows)]
    if not spoil:
        assert read(broken).left_out == ()
        return
    with pytest.raises(DataError) as caught:
        read(broken)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [f"row {i + 1}" for i in sorted(spoil)]
    if len(spoil) < len(rows):
        kept = read(broken, on_error="skip")
        good = read([row for i, row in enumerate(rows) if i not in spoil])
        np.testing.assert_array_equal(kept.label, good.label)
        assert kept.item_texts() == good.item_texts()


@given(tables(), st.sampled_from([".csv", ".jsonl", ".parquet"]), st.data())
@law
def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path, rows, extension, data):
    path = write(read(rows), tmp_path / f"a{extension}").path
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, len(content) - 1))
        content[where : where + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    path.write_bytes(content)
    try:
        dataset = read(path, on_error="skip")
    except DataError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert ((dataset.label >= 0) & (dataset.label <= 1)).all()


@given(st.lists(st.recursive(st.none() | st.booleans() | st.floats() | texts, lambda inner: st.lists(inner, max_size=3)
                             | st.dictionaries(st.sampled_from(["role", "content", "x"]), inner, max_size=3), max_leaves=6),
                min_size=5, max_size=5))  # fmt: skip
@law
def test_any_values_are_read_or_refused_in_one_line(values):
    row = dict(zip(["user", "prompt", "left", "right", "label"], values, strict=True))
    for rows in ([row], [json.loads(json.dumps(row))]):
        try:
            dataset = read(rows)
        except DataError as error:
            assert error.problems and "\n" not in str(error)
        else:
            assert np.isfinite(dataset.label).all() and dataset.users[0].strip()


@st.composite
def choices(draw):
    """Enough people and rows that most splits have all their cells."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    n_prompts = draw(st.sampled_from([1, 3, 30, 60]))
    n_replies = draw(st.integers(3, 12))
    rows = []
    for person in range(draw(st.integers(3, 30))):
        for step in range(int(rng.integers(1, 30))):
            a, b = rng.choice(n_replies, 2, replace=False)
            prompt = rng.integers(n_prompts)
            left, right = (f"Reply {prompt}-{i}{'.' * rng.integers(2)}" for i in (a, b))
            row = {"user": f"u{person}", "prompt": f"p{prompt}", "left": left, "right": right}
            rows.append({**row, "label": 1.0, "time": float(step)})
    return rows


@given(
    choices(), st.sampled_from(PROTOCOLS), st.integers(0, 100), st.sampled_from([None, (0, 3), (2, 3)]), st.booleans()
)
@law
def test_splits_never_leak(rows, protocol, seed, fold, final):
    dataset = read(rows)
    try:
        cells = split(dataset, protocol, seed=seed, fold=fold, final=final, required=[])
    except SplitError as error:
        assert "needs at least" in str(error)
        return
    assert not any(cells.proof.values())
    frame = dataset.to_frame().with_columns(
        left=pl.Series(normal_form(dataset.to_frame()["left"].to_list())),
        right=pl.Series(normal_form(dataset.to_frame()["right"].to_list())),
    )

    def met(name, *, per_person):
        rows = frame[getattr(cells, name)]
        first = rows["user"].to_list() if per_person else [""] * len(rows)
        return {*zip(first * 2, rows["prompt"].to_list() * 2, [*rows["left"], *rows["right"]], strict=True)}

    if protocol == "new-items":
        for early in ("train_full", "new_history", "final_history"):
            for late in ("seen_test", "new_test", "final_test"):
                assert not met(early, per_person=False) & met(late, per_person=False)
    elif protocol == "known-items":
        for early, late in [("train_full", "seen_test"), ("train", "seen_validation"), ("new_history", "new_test")]:
            assert not met(early, per_person=True) & met(late, per_person=True)


@given(choices(), st.sampled_from(PROTOCOLS), st.integers(0, 20), st.integers(0, 9))
@law
def test_the_order_of_rows_moves_no_row_to_another_cell(rows, protocol, seed, order):
    first, second = read(rows), read(shuffled(rows, order))
    if first.n_users < 3:
        return
    one, two = (split(dataset, protocol, seed=seed, required=[]) for dataset in (first, second))
    for name in one.sizes():
        assert sorted(first.to_frame()[getattr(one, name)].rows()) == sorted(
            second.to_frame()[getattr(two, name)].rows()
        )


@given(choices(), st.integers(2, 6), st.integers(0, 20))
@law
def test_every_person_is_new_in_exactly_one_fold(rows, n, seed):
    dataset = read(rows)
    new = [split(dataset, "known-items", seed=seed, fold=(i, n), required=[]).new_users for i in range(n)]
    assert sorted(np.concatenate(new).tolist()) == list(range(dataset.n_users))


_MILLION = """
import resource, sys, time
import numpy as np, polars as pl
from palate.data import read
rng, n, texts = np.random.default_rng(0), 1_000_000, 50_000
pool = pl.Series([f"reply {i} " + "and so on " * 20 for i in range(texts)])
left = rng.integers(0, texts, n)
right = (left + 1 + rng.integers(0, texts - 1, n)) % texts
users = pl.Series(rng.integers(0, 20_000, n)).cast(pl.String)
frame = pl.DataFrame({"user": users, "left": pool.gather(left), "right": pool.gather(right)})
frame = frame.with_columns(prompt=pl.lit("say"), label=1.0)
start = time.process_time()
dataset = read(frame)
assert (len(dataset), dataset.n_users, dataset.n_items) == (n, 20_000, texts), dataset
print(time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


@pytest.mark.slow
def test_a_million_comparisons_read_in_seconds_and_two_gigabytes():
    done = subprocess.run([sys.executable, "-c", _MILLION], capture_output=True, text=True, check=True, timeout=300)
    seconds, gigabytes = map(float, done.stdout.split())
    assert seconds < 15  # of processor time; 3 on an idle machine
    assert gigabytes < 2
