"""Splits: nothing leaks, people and groups stay where they are, folds partition people, errors say what to do."""

import os

import numpy as np
import polars as pl
import pytest

from palate.data import PROTOCOLS, load, read, split
from palate.data.holdout import hold_out_items, hold_out_late
from palate.data.people import FINAL_SHARE
from palate.data.text import normal_form, text_keys
from palate.errors import ConfigError, SplitError
from palate.rng import hash_fraction

needs_data = pytest.mark.skipif("PALATE_DATA" not in os.environ, reason="set PALATE_DATA to the folder of real data")


def people_on_prompts(n_people=80, n_prompts=60, rows_each=40, seed=0):
    """Many prompts with six replies each: the groups of new-items are prompts."""
    rng = np.random.default_rng(seed)
    rows = []
    for person in range(n_people):
        for step in range(rows_each):
            prompt = rng.integers(n_prompts)
            a, b = rng.choice(6, 2, replace=False)
            rows.append(
                {"user": f"u{person}", "prompt": f"prompt {prompt}", "left": f"reply {prompt} {a}",
                 "right": f"reply {prompt} {b}", "label": int(rng.random() < 0.5), "time": 1000.0 * person + step}
            )  # fmt: skip
    return read(rows)


def people_on_statements(n_people=60, n_items=40, rows_each=40, seed=0):
    """One prompt and few statements, each met over and over: the groups are items."""
    rng = np.random.default_rng(seed)
    rows = [
        {"user": f"u{person}", "prompt": "Agree?", "left": f"statement {a}", "right": f"statement {b}", "label": 1}
        for person in range(n_people)
        for a, b in (rng.choice(n_items, 2, replace=False) for _ in range(rows_each))
    ]
    return read(rows)


PROMPTS, STATEMENTS = people_on_prompts(), people_on_statements()


def texts(dataset, rows):
    frame = dataset.to_frame()[np.asarray(rows)]
    return {(row["prompt"], row[side]) for row in frame.iter_rows(named=True) for side in ("left", "right")}


def people(dataset, *cells):
    return {dataset.users[i] for rows in cells for i in dataset.user[rows]}


# -- what every split keeps apart -----------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("fold", [None, (1, 4)])
@pytest.mark.parametrize("final", [False, True])
def test_people_and_rows_are_apart(protocol, fold, final):
    cells = split(PROMPTS, protocol, seed=3, fold=fold, final=final)
    assert cells.proof and not any(cells.proof.values())
    parts = [cells.train_users, cells.validation_users, cells.new_users, cells.final_users]
    assert sorted(np.concatenate(parts).tolist()) == list(range(PROMPTS.n_users))
    assert bool(len(cells.final_users)) is final
    everything = np.concatenate([getattr(cells, name) for name in cells.sizes()])
    assert len(everything) == len(set(everything.tolist()))
    assert cells.dropped["all rows in no cell"] == len(PROMPTS) - len(everything)
    for number, names in zip(
        parts,
        [("train", "seen_validation", "seen_test", "train_full"), ("validation_history", "validation_test"),
         ("new_history", "new_test"), ("final_history", "final_test")],
        strict=True,
    ):  # fmt: skip
        assert people(PROMPTS, *(getattr(cells, name) for name in names)) <= {PROMPTS.users[i] for i in number}
    assert {*cells.train, *cells.seen_validation} <= {*cells.train_full}
    assert not {*cells.train_full} & {*cells.seen_test}


@pytest.mark.parametrize(("dataset", "group"), [(PROMPTS, "prompt"), (STATEMENTS, "item")], ids=["prompts", "items"])
@pytest.mark.parametrize("fold", [None, (0, 3)])
def test_new_items_share_no_text(dataset, group, fold):
    cells = split(dataset, "new-items", seed=1, fold=fold)
    assert cells.group == group
    learned = texts(dataset, np.concatenate([cells.train, cells.validation_history, cells.new_history]))
    chosen = texts(dataset, np.concatenate([cells.seen_validation, cells.validation_test]))
    tested = texts(dataset, np.concatenate([cells.seen_test, cells.new_test]))
    assert not learned & tested and not learned & chosen and not chosen & tested
    if group == "prompt":
        assert cells.dropped["pairs that mix groups"] == 0
        assert not {p for p, _ in learned} & {p for p, _ in tested}
    else:
        assert cells.dropped["pairs that mix groups"] > 0


def test_known_items_share_no_item_within_a_person():
    cells = split(STATEMENTS, "known-items", seed=1)
    for early, late in [("train_full", "seen_test"), ("train", "seen_validation"), ("new_history", "new_test"),
                        ("validation_history", "validation_test")]:  # fmt: skip
        early_rows, late_rows = getattr(cells, early), getattr(cells, late)
        for user in np.unique(STATEMENTS.user[late_rows]):
            mine = [rows[STATEMENTS.user[rows] == user] for rows in (early_rows, late_rows)]
            assert not texts(STATEMENTS, mine[0]) & texts(STATEMENTS, mine[1])
    assert texts(STATEMENTS, cells.seen_test) & texts(STATEMENTS, cells.train)


def test_spelling_variants_are_one_item():
    """A test row that repeats a training text with other capitals would be memorised, not predicted."""
    rng = np.random.default_rng(0)
    rows = []
    for person in range(60):
        for _ in range(30):
            a, b = rng.choice(12, 2, replace=False)
            left, right = (f"Statement {i}{'!' * rng.integers(3)}" for i in (a, b))
            prompt = rng.choice(["Agree?", "AGREE"])
            rows.append({"user": f"u{person}", "prompt": prompt, "left": left.upper(), "right": right, "label": 1})
    dataset = read(rows)
    for protocol in ("known-items", "new-items"):
        cells = split(dataset, protocol, seed=0, required=["train", "new_test"])
        frame = dataset.to_frame()
        for user in np.unique(dataset.user[cells.new_test]):
            both = []
            for rows_of in (cells.new_history, cells.new_test):
                mine = frame[rows_of[dataset.user[rows_of] == user]]
                both.append({*normal_form(mine["left"].to_list()), *normal_form(mine["right"].to_list())})
            assert not both[0] & both[1]


def test_a_ready_made_split_is_used_and_checked():
    frame = STATEMENTS.to_frame()
    ready = split(STATEMENTS, "known-items", seed=0, test_share=0.3)
    part = np.full(len(frame), "heldout", object)
    part[np.concatenate([ready.train_full, ready.validation_history, ready.new_history])] = "history"
    kept = np.concatenate([ready.train_full, ready.validation_history, ready.new_history, ready.seen_test,
                           ready.validation_test, ready.new_test])  # fmt: skip
    dataset = read(frame.with_columns(part=pl.Series(part.tolist()))[np.sort(kept)])
    cells = split(dataset, "known-items", seed=9)
    heldout = dataset.extra["part"] == "heldout"
    assert heldout[np.concatenate([cells.seen_test, cells.validation_test, cells.new_test])].all()
    assert not heldout[np.concatenate([cells.train_full, cells.validation_history, cells.new_history])].any()
    assert cells.dropped["pairs of a held-out and another item of the same person"] == 0
    anew = split(dataset, "known-items", seed=9, part=None)
    assert not heldout[anew.seen_test].all()

    random = np.random.default_rng(0).choice(["history", "heldout"], len(STATEMENTS)).tolist()
    leaking = read(frame.with_columns(part=pl.Series(random)))
    with pytest.raises(SplitError, match=r"leaks .*\(person, item text\) of train_full ∩ seen_test: \d"):
        split(leaking, "known-items", seed=0)
    with pytest.raises(SplitError, match="has the value 'later'; it must be history or heldout"):
        split(read(frame.with_columns(part=pl.lit("later"))), "known-items", seed=0)
    with pytest.raises(SplitError, match="has no column 'half'"):
        split(STATEMENTS, "known-items", seed=0, part="half")


def test_temporal_tests_come_after_history():
    cells = split(PROMPTS, "temporal", seed=0)
    for early, late in [("train", "seen_validation"), ("seen_validation", "seen_test"), ("new_history", "new_test")]:
        for user in np.unique(PROMPTS.user[getattr(cells, late)]):
            before, after = (rows[PROMPTS.user[rows] == user] for rows in (getattr(cells, early), getattr(cells, late)))
            assert PROMPTS.time[before].max(initial=-np.inf) < PROMPTS.time[after].min()
    share = len(cells.seen_test) / (len(cells.seen_test) + len(cells.train_full))
    assert abs(share - 0.2) < 0.06  # a little less, because repeated pairs are dropped


def test_temporal_drops_what_only_repeats():
    row = {"prompt": "p", "left": "a", "right": "b", "label": 1}
    rows = [{**row, "user": f"u{u}", "left": f"a{t % 8}", "time": t} for u in range(30) for t in range(10)]
    cells = split(read(rows), "temporal", seed=0, required=["train"])
    assert len(cells.seen_test) == 0
    assert cells.dropped["later rows that repeat an earlier pair of the person"] >= 2 * len(cells.train_users)


def test_a_proof_can_fail():
    from palate.data.cells import NormalItems, new_items_cells
    from palate.data.people import part_people
    from palate.data.proof import prove

    drawn = part_people(PROMPTS, 0, None, 0.2, 0.15, False)
    cells = new_items_cells(PROMPTS, drawn, 0, None, None, None)
    assert not any(prove(PROMPTS, "new-items", cells).values())
    assert isinstance(cells.normal, NormalItems)
    cells.masks["seen_test"][np.flatnonzero(cells.masks["train"])[:5]] = True
    broken = prove(PROMPTS, "new-items", cells)
    assert broken["rows in two cells"] == broken["rows of train_full ∩ seen_test"] == 5
    assert broken["learned prompt texts ∩ test prompt texts"] > 0
    cells.masks["new_test"][np.flatnonzero(cells.masks["train"])[-1]] = True
    assert prove(PROMPTS, "new-items", cells)["training people ∩ new people"] == 1


# -- what the draw depends on ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_same_seed_gives_the_same_split_and_another_one_does_not(protocol):
    first, again, other = (split(PROMPTS, protocol, seed=seed) for seed in (1, 1, 2))
    for name in first.sizes():
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert {*first.new_users} != {*other.new_users}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("options", [{}, {"fold": (2, 4)}, {"final": True}], ids=str)
def test_people_who_join_move_nobody(protocol, options):
    some = PROMPTS.subset(PROMPTS.user < 50)
    small, large = (split(dataset, protocol, seed=0, **options) for dataset in (some, PROMPTS))
    for name in ("train_users", "validation_users", "new_users", "final_users"):
        before = {some.users[i] for i in getattr(small, name)}
        after = {PROMPTS.users[i] for i in getattr(large, name)}
        assert before == after & {*some.users}
    if protocol != "new-items":
        rows = lambda dataset, cells: {*dataset.to_frame()[cells.new_test].rows()}  # noqa: E731
        assert rows(some, small) <= rows(PROMPTS, large)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_folds_partition_people(protocol):
    n = 5
    new = [split(PROMPTS, protocol, seed=0, fold=(i, n)).new_users for i in range(n)]
    assert sorted(np.concatenate(new).tolist()) == list(range(PROMPTS.n_users))


def test_folds_partition_prompts_too():
    tested = [
        {prompt for prompt, _ in texts(PROMPTS, split(PROMPTS, "new-items", seed=0, fold=(i, 4)).seen_test)}
        for i in range(4)
    ]
    assert sum(map(len, tested)) == len(set.union(*tested)) == PROMPTS.n_prompts


def test_the_final_people_are_the_same_for_every_seed_and_protocol():
    finals = [
        {*split(PROMPTS, protocol, seed=seed, final=True).final_users} for protocol in PROTOCOLS for seed in (0, 1)
    ]
    assert all(final == finals[0] for final in finals)
    expected = {i for i, user in enumerate(PROMPTS.users) if hash_fraction(user, "palate final people 1") < FINAL_SHARE}
    assert finals[0] == expected
    folds = [split(PROMPTS, seed=0, fold=(i, 3), final=True).new_users for i in range(3)]
    assert {*np.concatenate(folds)} == {*range(PROMPTS.n_users)} - expected


def test_shares_are_about_as_wanted():
    dataset = people_on_prompts(n_people=1000, n_prompts=400, rows_each=10)
    cells = split(
        dataset, "new-items", seed=0, test_people=0.3, validation_people=0.2, test_share=0.25, validation_share=0.25
    )
    assert abs(len(cells.new_users) / 1000 - 0.3) < 0.05
    assert abs(len(cells.validation_users) / 700 - 0.2) < 0.05
    of_seen = len(cells.train) + len(cells.seen_validation) + len(cells.seen_test)
    assert abs(len(cells.seen_test) / of_seen - 0.25) < 0.08
    assert abs(len(cells.seen_validation) / of_seen - 0.25) < 0.08


# -- holding out ----------------------------------------------------------------------------------------------------


def hold_out(user, left, right, share=0.25, salt="s"):
    user, left, right = np.array(user), np.array(left), np.array(right)
    keys = text_keys(map(str, range(1000)))
    return hold_out_items(user, left, right, user_keys=keys[: user.max() + 1], item_keys=keys, share=share, salt=salt)


def test_disjoint_pairs_are_held_out_without_loss():
    n = 20
    result = hold_out([0] * n, range(0, 2 * n, 2), range(1, 2 * n, 2))
    assert result.heldout.sum() == 5
    assert result.history.sum() == 15
    assert not result.mixed.any()


def test_a_chain_loses_little():
    n = 40
    result = hold_out([0] * n, range(n), range(1, n + 1))
    assert result.heldout.sum() == 10
    assert result.mixed.sum() <= 2


def test_a_complete_graph_loses_what_the_docstring_says():
    pairs = [(a, b) for a in range(30) for b in range(a)]
    left, right = zip(*pairs, strict=True)
    result = hold_out([0] * len(pairs), left, right)
    assert abs(result.heldout.mean() - 0.25) < 0.04
    assert abs(result.mixed.mean() - 2 * 0.5 * 0.5) < 0.04


def test_a_person_without_history_keeps_all_rows_there():
    result = hold_out([0, 0, 0, 1], [0, 1, 2, 0], [1, 2, 0, 1], share=0.4)
    assert result.history.all()
    assert not result.heldout.any()


def test_who_is_held_out_is_drawn_anew_by_salt():
    n = 20
    draws = [hold_out([0] * n, range(0, 2 * n, 2), range(1, 2 * n, 2), salt=str(i)).heldout for i in range(500)]
    np.testing.assert_allclose(np.mean(draws, axis=0), 0.25, atol=0.08)


def test_late_rows_keep_equal_times_together():
    user = np.array([0] * 10 + [1] * 4)
    time = np.array([0, 1, 2, 3, 4, 5, 6, 7, 7, 9, 5, 5, 5, 5], float)
    result = hold_out_late(user, time, 3, 0.2)
    assert np.flatnonzero(result.heldout).tolist() == [9]
    assert not result.mixed.any()


# -- errors ---------------------------------------------------------------------------------------------------------


def test_a_cell_that_stays_empty_is_named_with_the_fix():
    short = people_on_prompts(n_people=30, n_prompts=60, rows_each=1)
    with pytest.raises(SplitError, match=r"leaves .*seen_test.* empty.*it needs .* or another seed"):
        split(short, "known-items", seed=0)
    assert len(split(short, "known-items", seed=0, required=["train"]).train)


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_people(n):
    few = people_on_prompts(n_people=n)
    with pytest.raises(SplitError, match="one person|2 people"):
        split(few, seed=0)


def test_three_people_are_enough():
    cells = split(people_on_prompts(n_people=3), "new-items", seed=0)
    assert [len(getattr(cells, f"{name}_users")) for name in ("train", "validation", "new")] == [1, 1, 1]


def test_no_times():
    with pytest.raises(SplitError, match="has no times; a temporal split needs the column time"):
        split(STATEMENTS, "temporal", seed=0)
    rows = PROMPTS.to_frame().with_columns(time=pl.when(pl.col("time") > 5).then("time"))
    with pytest.raises(SplitError, match="6 rows without a time"):
        split(read(rows), "temporal", seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "random"}, "unknown protocol 'random'"),
        ({"fold": (5, 5)}, r"fold=\(5, 5\)"),
        ({"fold": (0, 1)}, r"fold=\(0, 1\)"),
        ({"test_people": 0}, "test_people=0"),
        ({"validation_share": 1.5}, "validation_share=1.5"),
        ({"test_share": 0.6, "validation_share": 0.5}, "leave nothing to train on"),
        ({"required": ["tests"]}, "no cell 'tests'"),
    ],
)
def test_settings_out_of_range(options, message):
    with pytest.raises(ConfigError, match=message):
        split(PROMPTS, seed=0, **options)


# -- real people ----------------------------------------------------------------------------------------------------


@needs_data
@pytest.mark.parametrize("name", ["convarg", "polis_bowling_green"])
def test_real_data_splits_without_leaks(name):
    dataset = load(name)
    for protocol in PROTOCOLS if dataset.time is not None else PROTOCOLS[:2]:
        for fold in (None, (0, 5)):
            cells = split(dataset, protocol, seed=0, fold=fold, final=True)
            assert not any(cells.proof.values())
            assert min(cells.sizes().values()) > 100
    if name == "polis_bowling_green":
        own = split(dataset, "known-items", seed=0)
        assert {*dataset.extra["part"][own.seen_test]} == {"heldout"}
        assert own.dropped["pairs of a held-out and another item of the same person"] == 0
