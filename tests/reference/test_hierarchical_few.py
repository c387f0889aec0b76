"""`hierarchical` with few people: the joint posterior beside a plain minimiser, and what the covariance of people must say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from palate.models import hierarchical_few as few
from palate.models import hierarchical_joint as joint
from palate.models import make
from palate.progress import recording
from palate.rng import derive
from palate.types import Comparisons, Items


def choices(weights, *, rows=150, dim=4, seed=0):
    """People with reward x·w compare random items; fresh items for the test."""
    rng = np.random.default_rng(seed)
    weights = np.asarray(weights, float)

    def drawn(rows):
        items = Items.of(rng.standard_normal((2 * rows * len(weights), dim)))
        left = np.arange(rows * len(weights)) * 2
        user = np.arange(rows * len(weights)) % len(weights)
        logit = np.einsum("md,md->m", items.features[left] - items.features[left + 1], weights[user])
        chance = 1.0 / (1.0 + np.exp(-logit))
        return Comparisons.of(items, left, left + 1, user, (rng.random(len(chance)) < chance).astype(float))

    return drawn(rows), drawn(200)


def accuracy(method, test):
    left, right = test.items.take(test.left), test.items.take(test.right)
    return float(np.mean((method.prefer(left, right, method.states_, test.user) > 0.5) == (test.label > 0.5)))


def random_rows(n, q, m, seed):
    rng = np.random.default_rng(seed)
    user = np.concatenate([np.arange(n), rng.integers(0, n, m - n)])
    return joint.Rows(
        z=rng.standard_normal((m, q)),
        label=rng.random(m),
        weight=rng.random(m) + 0.2,
        offset=0.3 * rng.standard_normal(m),
        parts=tuple(np.flatnonzero(user == person) for person in range(n)),
    ), user


@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 4), q=st.integers(1, 3), seed=st.integers(0, 10_000))
def test_the_joint_posterior_is_a_plain_minimisers(n, q, seed):
    rows, user = random_rows(n, q, 12, seed)
    spread = np.random.default_rng(seed + 1).standard_normal((n, n))
    alike = spread @ spread.T + 0.5 * np.eye(n)
    inverse = np.linalg.inv(alike)

    def loss(flat):
        w = flat.reshape(n, q)
        total = 0.0
        for i in range(len(user)):
            logit = rows.offset[i] + rows.z[i] @ w[user[i]]
            total += rows.weight[i] * (np.log1p(np.exp(logit)) - rows.label[i] * logit)
        for j in range(q):
            total += 0.5 * w[:, j] @ inverse @ w[:, j]
        return total

    found = minimize(loss, np.zeros(n * q), method="BFGS", options={"gtol": 1e-8}).x.reshape(n, q)
    root, weights = np.linalg.cholesky(alike), np.zeros((n, q))
    for _ in range(6):
        weights, covariance = joint.posterior(rows, root, weights)
    np.testing.assert_allclose(weights, found, atol=2e-4)

    # The covariance is the inverse of the second derivative, taken here by differences of the gradient of the shares.
    hessian, step, shares = np.zeros((n * q, n * q)), 1e-4, np.linalg.solve(root, weights).ravel()
    moved = lambda flat: loss((root @ flat.reshape(n, q)).ravel())  # noqa: E731
    for a in range(n * q):
        for b in range(n * q):
            ea, eb = step * np.eye(n * q)[a], step * np.eye(n * q)[b]
            up = moved(shares + ea + eb) + moved(shares - ea - eb)
            down = moved(shares + ea - eb) + moved(shares - ea + eb)
            hessian[a, b] = (up - down) / (4 * step * step)
    np.testing.assert_allclose(covariance.reshape(n * q, n * q), np.linalg.inv(hessian), atol=1e-4)


def test_a_prediction_averages_over_the_posterior():
    """Mean and variance of a logit, against draws of the shares."""
    rows, user = random_rows(3, 2, 20, 0)
    root = np.linalg.cholesky(np.array([[2.0, 1.0, -1.0], [1.0, 2.0, 0.0], [-1.0, 0.0, 2.0]]))
    weights, factor = joint.mode(rows, root, np.zeros((3, 2)))
    mean, variance = joint.predicted(rows, root, weights, factor)
    draws = np.random.default_rng(0).standard_normal((200_000, 6)) @ np.linalg.inv(factor)
    spread = np.einsum("ua,daj->duj", root, draws.reshape(-1, 3, 2))
    for i in range(20):
        logits = rows.offset[i] + (weights + spread)[:, user[i]] @ rows.z[i]
        assert abs(logits.mean() - mean[i]) < 0.02 and abs(logits.var() / variance[i] - 1.0) < 0.02


def test_strangers_are_learned_apart_to_the_same_end():
    """A diagonal K is solved person by person; one that is nearly so, together."""
    rows, _ = random_rows(4, 3, 30, 0)
    root = np.diag([1.0, 2.0, 0.5, 1.5])
    apart, together = (joint.mode(rows, root + near, np.zeros((4, 3))) for near in (0.0, 1e-9 * np.tri(4)))
    for one, other in zip(apart, together, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_rows_are_taken_person_by_person():
    rows, user = random_rows(3, 2, 20, 0)
    kept = np.arange(20) % 3 > 0
    taken = rows.take(kept)
    np.testing.assert_array_equal(taken.z, rows.z[kept])
    for person in range(3):
        np.testing.assert_array_equal(taken.z[taken.parts[person]], rows.z[kept & (user == person)])


def test_no_prompt_is_learned_from_and_asked_about():
    rng = np.random.default_rng(0)
    items = Items.of(rng.standard_normal((60, 3)), prompt=np.repeat(np.arange(20), 3))
    left = rng.integers(0, 20, 200) * 3
    rows = Comparisons.of(
        items, left, left + rng.integers(1, 3, 200), rng.integers(0, 4, 200), rng.integers(0, 2, 200) * 1.0
    )
    folds = few._folds(rows, derive(0, "folds"))
    prompt = items.prompt[rows.left]
    assert len(folds) == 4 and sum(held.sum() for _, held in folds) == 200
    for kept, held in folds:
        assert not set(prompt[kept]) & set(prompt[held])


def test_without_prompts_no_item_is_learned_from_and_asked_about():
    train, _ = choices([TASTE, -TASTE], rows=60)
    once = few._folds(train, derive(0, "folds"))
    assert sum(held.sum() for _, held in once) == len(train), "items that occur once lose no row"
    rng = np.random.default_rng(0)
    left = rng.integers(0, 40, 400)
    right = (left + rng.integers(1, 40, 400)) % 40
    again = Comparisons.of(train.items, left, right, np.arange(400) % 2, np.ones(400))
    folds = few._folds(again, derive(0, "folds"))
    assert len(folds) == 4
    for kept, held in folds:
        assert not {*left[kept], *right[kept]} & {*left[held], *right[held]}


def test_where_a_part_would_hold_too_few_rows_nothing_is_left_out():
    train, _ = choices([TASTE, -TASTE], rows=60)
    assert few._folds(train.take(np.arange(4 * few._LEAST - 1)), derive(0, "folds")) == []


TASTE = np.array([2.0, -1.0, 0.0, 0.5])


def test_opposite_people_do_not_cancel():
    train, test = choices([TASTE, -TASTE, TASTE, -TASTE], rows=25)
    method = make("hierarchical").fit(train, rng=0)
    assert accuracy(method, test) > accuracy(make("pooled").fit(train, rng=0), test) + 0.2
    assert accuracy(method, test) >= accuracy(make("individual").fit(train, rng=0), test)
    direction = method.states_.arrays["mean"] @ method.tastes_["content"].T
    signs = np.sign(direction @ direction[0])
    np.testing.assert_array_equal(signs, [1, -1, 1, -1])


def test_people_who_agree_are_learned_together():
    train, test = choices([TASTE] * 8, rows=12, dim=4)
    method = make("hierarchical").fit(train, rng=0)
    assert accuracy(method, test) > accuracy(make("individual").fit(train, rng=0), test) + 0.01
    # That people agree has to be learned, too: .011 below the method that takes it for granted.
    assert accuracy(method, test) >= accuracy(make("pooled").fit(train, rng=0), test) - 0.02


def test_strangers_to_each_other_are_individual():
    train, test = choices(3 * np.eye(4), rows=60)
    found = [accuracy(make(name).fit(train, rng=0), test) for name in ("hierarchical", "individual")]
    assert found[0] >= found[1] - 0.01


def test_it_depends_neither_on_the_seed_nor_on_who_comes_first():
    train, test = choices([TASTE, -TASTE, TASTE[::-1]], rows=30)
    left, right = test.items.take(test.left), test.items.take(test.right)
    first = make("hierarchical").fit(train, rng=0)
    again = make("hierarchical").fit(train, rng=1)
    place = np.array([2, 0, 1])
    order = derive(0, "rows").permutation(len(train))
    moved = Comparisons.of(
        train.items, train.left[order], train.right[order], place[train.user[order]], train.label[order], n_users=3
    )
    other = make("hierarchical").fit(moved, rng=0)
    expected = first.prefer(left, right, first.states_, test.user)
    np.testing.assert_array_equal(again.prefer(left, right, again.states_, test.user), expected)
    np.testing.assert_allclose(other.prefer(left, right, other.states_, place[test.user]), expected, atol=2e-3)


@pytest.mark.parametrize(("rank", "axes"), [(1, 1), (3, 3), (10, 4)])
def test_there_are_as_many_axes_as_asked_for_and_no_more_than_people(rank, axes):
    train, test = choices(np.eye(4) * 3.0, rows=60)
    method = make("hierarchical", rank=rank).fit(train, rng=0)
    assert method.states_.arrays["mean"].shape == (4, axes)
    assert accuracy(method, test) > {1: 0.5, 3: 0.7, 10: 0.8}[rank]


def test_one_person_alone_and_one_row():
    train, test = choices([TASTE], rows=80)
    assert accuracy(make("hierarchical").fit(train, rng=0), test) > 0.7
    one = train.take(np.arange(1))
    method = make("hierarchical").fit(one, rng=0)
    chance = method.prefer(test.items.take(test.left), test.items.take(test.right), method.states_, test.user)
    assert np.isfinite(chance).all()


@pytest.mark.parametrize(("people", "expected"), [(few.FEW_PEOPLE, True), (few.FEW_PEOPLE + 1, False)])
def test_which_people_are_few(people, expected):
    """Rounds of the two ways carry different records; people without answers do not count."""
    train, _ = choices(np.random.default_rng(0).standard_normal((people, 4)), rows=3)
    silent = Comparisons.of(train.items, train.left, train.right, train.user, train.label, n_users=people + 5)
    told: list[str] = []
    assert make("hierarchical", epochs=2).fit(silent, rng=0).states_.arrays["mean"].shape[0] == people + 5
    with recording(lambda what, step, values: told.extend(values)):
        make("hierarchical", epochs=2).fit(silent, rng=0)
    assert ("missed" in told) == expected


def test_rows_of_weight_zero_are_none():
    """Nobody is one of the people by them, and their items shape nothing."""
    train, test = choices([TASTE, -TASTE, TASTE[::-1]], rows=30)
    counted = train.user < 2
    empty = replace(train, weight=counted.astype(float))
    alone = replace(train.take(counted), n_users=3)
    left, right = test.items.take(test.left), test.items.take(test.right)
    found, expected = (make("hierarchical").fit(rows, rng=0) for rows in (empty, alone))
    np.testing.assert_array_equal(
        found.prefer(left, right, found.states_, test.user), expected.prefer(left, right, expected.states_, test.user)
    )
    for name, value in found.prior_.arrays.items():
        np.testing.assert_allclose(found.states_.arrays[name][2], value[0], atol=1e-12)


@pytest.mark.parametrize("prompt", [np.zeros(40), np.arange(40), np.arange(40) // 2])
@pytest.mark.parametrize("known", [False, True])
def test_features_that_tell_nothing_apart_are_none(prompt, known):
    """Of few people too: what is left is which known items they choose."""
    left, step = np.random.default_rng(0).integers(1, 40, (2, 300))
    right, user = (left + step) % 40, np.arange(300) % 5
    keys = np.arange(40) if known else None
    items = Items.of(np.full((40, 3), 0.1), keys=keys, prompt=prompt.astype(np.int32))
    liked = (np.arange(40) < 20).astype(float)
    rows = Comparisons.of(items, left, right, user, 0.5 + 0.5 * (liked[left] - liked[right]))
    method = make("hierarchical", epochs=4).fit(rows, rng=0)
    chance = method.prefer(items.take(left), items.take(right), method.states_, user)
    if known:
        decided = rows.label != 0.5
        assert decided.any() and ((chance > 0.5) == (rows.label > 0.5))[decided].all()
    else:
        np.testing.assert_allclose(chance, 0.5)


def test_a_temper_is_learned_and_kept(tmp_path):
    """Half of what people like stands in no feature, and differs from item to item: the known texts explain too much."""
    rng = np.random.default_rng(0)
    items = Items.of(rng.standard_normal((60, 40)))
    worth = items.features[:, 0] + 3.0 * rng.standard_normal(60)
    left = rng.integers(0, 60, 600)
    right = (left + rng.integers(1, 60, 600)) % 60
    rows = Comparisons.of(items, left, right, np.arange(600) % 4, (worth[left] > worth[right]).astype(float))
    method = make("hierarchical").fit(rows, rng=0)
    assert method.temper_ < 0.9
    method.save(tmp_path / "method.safetensors")
    again = type(method).load(tmp_path / "method.safetensors")
    sides = items.take(left), items.take(right)
    np.testing.assert_array_equal(
        again.prefer(*sides, again.states_, rows.user), method.prefer(*sides, method.states_, rows.user)
    )
    assert again.temper_ == method.temper_
    assert method.fit(choices([TASTE], rows=3)[0], rng=0).temper_ == 1.0, "an earlier fit's is forgotten"
