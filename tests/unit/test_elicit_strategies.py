"""Strategies against brute-force quadrature in two dimensions, and what they all promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, xlogy

from palate.config import Config
from palate.elicit import (
    STRATEGIES,
    Pool,
    confidence_radius,
    contrasting_pair,
    d_optimal,
    epig,
    eubo,
    generated_question,
    pref,
    pref_program,
    prepare,
    strategy,
    thompson,
    uncertain_direction,
    v_optimal,
)
from palate.elicit.acquisition import draw_best
from palate.elicit.standing import freshness, standing
from palate.elicit.update import one_person
from palate.errors import FingerprintError, InputError
from palate.models.base import Traits
from palate.models.likelihood import adapt_users
from palate.models.linear import LinearMethod
from palate.types import Comparisons, Items, UserState, UserStates

PRIOR_MEAN = np.array([0.5, -0.2])
PRIOR_PRECISION = np.array([[1.0, 0.4], [0.4, 0.5]])
SHARED = 0.3


class Plane(LinearMethod):
    """People with N(mean, precision⁻¹) weights on two features; nothing is learned."""

    name = "plane"
    traits = Traits(linear=True, posterior=True)
    Config = Config
    told_noise = 0.0

    def _fit(self, comparisons, offset, rng, progress) -> None:
        self.prior_mean_, self.prior_precision_ = PRIOR_MEAN, PRIOR_PRECISION
        self._set_states(comparisons, offset)

    def _basis(self, items: Items) -> np.ndarray:
        return items.features.astype(np.float64)

    def _shared(self, items: Items) -> np.ndarray:
        return SHARED * items.features[:, 0].astype(np.float64)

    def _noise(self, items: Items) -> np.ndarray:
        return np.full(len(items), self.told_noise)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def rows(rng) -> Comparisons:
    items = Items.of(rng.normal(size=(20, 2)))
    left, right = rng.integers(20, size=(2, 12))
    return Comparisons.of(items, left, right, np.zeros(12, int), rng.integers(2, size=12).astype(float))


@pytest.fixture
def method(rows: Comparisons) -> Plane:
    return Plane().fit(rows, rng=0)


@pytest.fixture
def state(method: Plane) -> UserState:
    return method.states_[0]


def pool_of(rng, n: int, scale: float = 1.0) -> Pool:
    prompt = np.arange(n, dtype=np.int32) % 3
    return Pool(
        Items.of(scale * rng.normal(size=(n, 2)), prompt=prompt),
        Items.of(scale * rng.normal(size=(n, 2)), prompt=prompt),
    )


def people(state: UserState, points: int = 161) -> tuple[np.ndarray, np.ndarray]:
    """(points², 2) weights on a grid of eight deviations each way, and the posterior's mass there."""
    z = np.linspace(-8, 8, points)
    grid = np.stack(np.meshgrid(z, z, indexing="ij"), -1).reshape(-1, 2)
    mass = np.exp(-0.5 * (grid**2).sum(1))
    return state["mean"] + grid @ np.linalg.cholesky(state["covariance"]).T, mass / mass.sum()


def logits(weights: np.ndarray, pool: Pool) -> np.ndarray:
    """(people, n)."""
    v = (pool.left.features - pool.right.features).astype(np.float64)
    return weights @ v.T + SHARED * v[:, 0]


def answered_hessian(rows: Comparisons, at: np.ndarray) -> np.ndarray:
    """Σ σ′ v vᵀ + prior precision, row by row."""
    total = PRIOR_PRECISION.copy()
    for left, right in zip(rows.left, rows.right, strict=True):
        v = (rows.items.features[left] - rows.items.features[right]).astype(np.float64)
        p = expit(v @ at + SHARED * v[0])
        total += p * (1 - p) * np.outer(v, v)
    return total


# -- each against its definition ---------------------------------------------------------------------------------


def test_pref_is_the_norm_under_the_inverse_hessian_of_the_answers(method, rows, state, rng) -> None:
    pool = pool_of(rng, 9)
    inverse = np.linalg.inv(answered_hessian(rows, state["mean"]))
    v = (pool.left.features - pool.right.features).astype(np.float64)
    np.testing.assert_allclose(pref(state, pool, method), [np.sqrt(x @ inverse @ x) for x in v], rtol=1e-3)
    p = expit(logits(state["mean"][None], pool)[0])
    expected = [(q * (1 - q)) ** 2 * x @ inverse @ x for q, x in zip(p, v, strict=True)]
    np.testing.assert_allclose(pref_program(state, pool, method), expected, rtol=2e-3)


def test_pref_is_the_largest_error_over_the_confidence_set(method, rows, state, rng) -> None:
    """Lemma 4.3 by walking around the ellipse."""
    pool, radius = pool_of(rng, 6), 1.7
    angle = np.linspace(0, 2 * np.pi, 4001)
    root = np.linalg.cholesky(state["covariance"])
    edge = radius * np.stack([np.cos(angle), np.sin(angle)], 1) @ root.T
    v = (pool.left.features - pool.right.features).astype(np.float64)
    np.testing.assert_allclose(radius * pref(state, pool, method), (edge @ v.T).max(0), rtol=1e-5)


def test_d_optimal_is_half_the_gain_of_the_log_determinant(method, rows, state, rng) -> None:
    pool = pool_of(rng, 9)
    before = np.linalg.inv(state["covariance"])
    p = expit(logits(state["mean"][None], pool)[0])
    v = (pool.left.features - pool.right.features).astype(np.float64)
    expected = [
        0.5 * (np.linalg.slogdet(before + q * (1 - q) * np.outer(x, x))[1] - np.linalg.slogdet(before)[1])
        for q, x in zip(p, v, strict=True)
    ]
    np.testing.assert_allclose(d_optimal(state, pool, method), expected, rtol=1e-6)


def test_eubo_is_the_expected_best_by_quadrature(method, state, rng) -> None:
    pool = pool_of(rng, 9)
    weights, mass = people(state)
    left, right = (
        weights @ items.features.T.astype(np.float64) + SHARED * items.features[:, 0]
        for items in (pool.left, pool.right)
    )
    middle = mass @ (0.5 * (left + right))
    usual = np.array([middle[pool.left.prompt == prompt].mean() for prompt in pool.left.prompt])
    np.testing.assert_allclose(eubo(state, pool, method), mass @ np.maximum(left, right) - usual, atol=2e-3)


def test_thompson_is_the_disagreement_of_two_drawn_people(method, state, rng) -> None:
    pool = pool_of(rng, 9)
    first, second = expit(logits(method.sample(state.batch, 2, rng=5)[:, 0], pool))
    np.testing.assert_allclose(thompson(state, pool, method, rng=5), np.abs(first - second), atol=1e-6)


def brute_information(state: UserState, pool: Pool, noise: float = 0.0) -> np.ndarray:
    """(n, n) mutual information of any two answers, by summing over people."""
    weights, mass = people(state)
    z, share = np.polynomial.hermite_e.hermegauss(40)
    t = logits(weights, pool)
    deviation = np.sqrt(2 * noise)  # both sides
    p = sum(w * expit(t + deviation * x) for x, w in zip(z, share / share.sum(), strict=True))
    both = np.einsum("g,gi,gj->ij", mass, p, p)
    one = mass @ p
    total = np.zeros_like(both)
    for cell, alone in (
        (both, np.outer(one, one)),
        (one[:, None] - both, np.outer(one, 1 - one)),
        (one[None] - both, np.outer(1 - one, one)),
        (1 - one[:, None] - one[None] + both, np.outer(1 - one, 1 - one)),
    ):
        total += xlogy(cell, cell / alone)
    return total


@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_epig_is_the_mean_information_about_targets_by_quadrature(method, state, rng, noise: float) -> None:
    method.told_noise = noise
    pool = pool_of(rng, 8, 1.5)
    information = brute_information(state, pool, noise)
    # Of a question and itself the target is a second answer of the same person, independent given the person.
    np.testing.assert_allclose(epig(state, pool, method), information.mean(1), rtol=0.08, atol=1e-4)
    targets = pool.take(np.array([2]))
    np.testing.assert_allclose(epig(state, pool, method, targets=targets), information[:, 2], rtol=0.08, atol=1e-4)


def test_v_optimal_is_epig_where_little_is_unknown(method, state, rng) -> None:
    narrow = {"mean": state.batch.arrays["mean"], "covariance": 0.02 * state.batch.arrays["covariance"]}
    sure = UserState(UserStates(state.method, state.fingerprint, 1, narrow))
    pool = pool_of(rng, 12)
    np.testing.assert_allclose(v_optimal(sure, pool, method), epig(sure, pool, method), rtol=0.05)


def test_v_optimal_orders_questions_as_epig_does(method, state, rng) -> None:
    pool = pool_of(rng, 60, 1.5)
    ranks = [np.argsort(np.argsort(score(state, pool, method))) for score in (v_optimal, epig)]
    assert np.corrcoef(*ranks)[0, 1] > 0.9


# -- what they all promise ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - {"random"}))
def test_the_order_of_the_pool_and_the_sides_do_not_matter(method, state, rng, name: str) -> None:
    pool, order = pool_of(rng, 30), rng.permutation(30)
    score = strategy(name)
    scores = score(state, pool, method, rng=1)
    np.testing.assert_allclose(score(state, pool.take(order), method, rng=1), scores[order], atol=1e-9)
    np.testing.assert_allclose(score(state, Pool(pool.right, pool.left), method, rng=1), scores, atol=1e-9)


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_a_prepared_pool_gives_the_same_utilities(method, state, rng, name: str) -> None:
    pool = pool_of(rng, 30)
    scores = strategy(name)(state, pool, method, rng=1)
    np.testing.assert_array_equal(strategy(name)(state, prepare(pool, method), method, rng=1), scores)
    single = strategy(name)(state, prepare(pool, method, dtype=np.float32), method, rng=1)
    np.testing.assert_allclose(single, scores, atol=1e-4)


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - {"random", "eubo"}))
def test_a_question_between_a_reply_and_itself_is_worth_nothing(method, state, rng, name: str) -> None:
    items = Items.of(rng.normal(size=(4, 2)))
    assert np.all(np.abs(strategy(name)(state, Pool(items, items), method, rng=1)) < 1e-9)


def test_equals_are_drawn_from_and_only_among_the_allowed() -> None:
    scores, generator = np.array([1.0, 2.0, 2.0, 3.0]), np.random.default_rng(0)
    allowed = np.array([True, True, True, False])
    assert {draw_best(scores, generator, allowed) for _ in range(50)} == {1, 2}
    assert draw_best(scores, generator) == 3


def test_a_pool_prepared_for_another_fit_is_refused(method, state, rng) -> None:
    prepared = prepare(pool_of(rng, 3), method)
    other = Plane().fit(Comparisons.of(Items.of(rng.normal(size=(4, 2))), [0], [1], [0], [1.0]), rng=0)
    with pytest.raises(FingerprintError, match="prepare it again"):
        pref(other.prior_[0], prepared, other)


def test_epig_needs_a_target(method, state, rng) -> None:
    with pytest.raises(InputError, match="no target"):
        epig(state, pool_of(rng, 3), method, targets=pool_of(rng, 0))


# -- what a session builds on ------------------------------------------------------------------------------------


def test_a_shown_text_and_a_shown_prompt_count_less() -> None:
    left, right, prompt = np.array([0, 0, 2, 4]), np.array([1, 2, 3, 5]), np.array([0, 0, 0, 1])
    worth = freshness(left, right, prompt, np.array([0]), 0.5)
    per_prompt = 1 / 1.5
    np.testing.assert_allclose(worth, [per_prompt * per_prompt, per_prompt * (1 + 1 / 1.5) / 2, per_prompt, 1.0])
    assert freshness(left, right, prompt, np.array([0]), 0.0) == 1.0


def test_what_is_left_to_learn_is_the_largest_information_of_an_open_question(method, state, rng) -> None:
    narrow = {"mean": state.batch.arrays["mean"], "covariance": 0.02 * state.batch.arrays["covariance"]}
    sure, pool = UserState(UserStates(state.method, state.fingerprint, 1, narrow)), pool_of(rng, 20)
    bits = strategy("bald")(sure, pool, method) / np.log(2)
    everything = np.ones(20, bool)
    assert standing(sure, prepare(pool, method), method, everything).gain == pytest.approx(bits.max(), rel=0.03)
    closed = everything.copy()
    closed[np.argmax(bits)] = False
    assert standing(sure, prepare(pool, method), method, closed).gain == pytest.approx(np.sort(bits)[-2], rel=0.03)
    weights, mass = people(sure)
    p = expit(logits(weights, pool))
    spread = np.sqrt(mass @ p**2 - (mass @ p) ** 2).mean()
    assert standing(sure, prepare(pool, method), method, everything).spread == pytest.approx(spread, rel=0.03)


@pytest.mark.parametrize("scale", [0.3, 3.0, 30.0])
def test_one_person_from_any_start_is_adapt_users(rng, scale: float) -> None:
    v, label, weight = scale * rng.normal(size=(9, 3)), rng.random(9), rng.random(9)
    offset, precision = rng.normal(size=9), np.diag([1.0, 2.0, 0.5])
    mean = rng.normal(size=3)
    expected = adapt_users(
        v, label, weight, np.zeros(9, int), 1, mean=mean, precision=precision, offset=offset, tolerance=1e-9
    )
    for start in (mean, expected[0][0] + 0.01, 50 * rng.normal(size=3)):
        mode, covariance = one_person(v, label, weight, offset, mean=mean, precision=precision, start=start)
        np.testing.assert_allclose(mode, expected[0][0], atol=1e-6)
        np.testing.assert_allclose(covariance, expected[1][0], rtol=2e-4, atol=1e-9)


# -- PReF's made question, and its confidence set ----------------------------------------------------------------


def test_the_made_question_is_the_best_and_the_worst_along_the_least_known_direction(method, state, rng) -> None:
    direction, variance = uncertain_direction(state)
    np.testing.assert_allclose(state["covariance"] @ direction, variance * direction, atol=1e-12)
    assert variance == pytest.approx(np.linalg.eigvalsh(state["covariance"]).max())
    replies = Items.of(rng.normal(size=(7, 2)))
    along = replies.features @ direction
    assert contrasting_pair(state, replies, method) == (int(np.argmax(along)), int(np.argmin(along)))


def test_replies_that_cannot_differ_are_refused(method, state, rng) -> None:
    same = Items.of(np.ones((3, 2)))
    with pytest.raises(InputError, match="the same to this model"):
        contrasting_pair(state, same, method)
    with pytest.raises(InputError, match="at least two"):
        contrasting_pair(state, same.take(np.array([0])), method)
    with pytest.raises(InputError, match="one prompt"):
        contrasting_pair(state, Items.of(rng.normal(size=(2, 2)), prompt=np.array([0, 1])), method)


class TextModel:
    """Texts whose two features are their numbers of letters a and b."""

    def __init__(self, method: Plane) -> None:
        self.method = method

    def items(self, texts, *, progress) -> Items:
        return Items.of(np.array([[reply.count("a"), reply.count("b")] for _, reply in texts], float))


def test_a_question_is_made_from_replies_or_from_a_sampler(method, state) -> None:
    replies = ["", "a", "b", "aab", "abbb", "aab"]
    direction, _ = uncertain_direction(state)
    along = {reply: np.array([reply.count("a"), reply.count("b")]) @ direction for reply in replies}
    expected = {max(along, key=along.get), min(along, key=along.get)}
    asked_for = []

    def sampler(prompt: str, n: int) -> list[str]:
        asked_for.append((prompt, n))
        return replies

    for source in (replies, sampler):
        sides = set()
        for seed in range(12):
            prompt, left, right = generated_question(TextModel(method), state, "why?", source, n=5, rng=seed)
            assert prompt == "why?" and {left, right} == expected
            sides.add(left)
        assert sides == expected
    assert asked_for[0] == ("why?", 5)


def test_the_confidence_set_holds_the_truth(rng) -> None:
    """Over 60 people and every number of answers up to 40; the bound is wide, so it never fails here."""
    l2, bound, worst = 1.0, 2.0, 0.0
    for _ in range(60):
        truth = rng.normal(size=2)
        truth *= bound / max(np.linalg.norm(truth), bound)
        v = rng.normal(size=(40, 2))
        v /= np.maximum(1.0, np.linalg.norm(v, axis=1))[:, None]
        label = (rng.random(40) < expit(v @ truth)).astype(float)
        for n in (1, 5, 40):
            mode, covariance = adapt_users(
                v[:n], label[:n], np.ones(n), np.zeros(n, int), 1, mean=np.zeros(2), precision=l2 * np.eye(2)
            )
            away = truth - mode[0]
            norm = np.sqrt(away @ np.linalg.inv(covariance[0]) @ away)
            radius = confidence_radius(n, 2, l2=l2, bound=bound)
            worst = max(worst, norm / radius)
    assert worst < 1.0


def test_the_confidence_radius_is_its_formula_and_moves_as_theory_says() -> None:
    n, r, l2, bound, delta = 20, 3, 2.0, 1.5, 0.1
    gamma = np.sqrt(l2) * (bound + 0.5) + 2 / np.sqrt(l2) * np.log(2**r / delta * (1 + n / (4 * l2 * r)) ** (r / 2))
    plain = confidence_radius(n, r, l2=l2, bound=bound, delta=delta, at_estimate=False)
    assert plain == pytest.approx((1 + 2 * bound) * gamma)
    relaxed = confidence_radius(n, r, l2=l2, bound=bound, delta=delta)
    assert relaxed == pytest.approx(np.exp(0.5 * min(2 * bound, plain / np.sqrt(l2))) * plain)
    assert confidence_radius(200, r, l2=l2, bound=bound) > confidence_radius(20, r, l2=l2, bound=bound)
    assert confidence_radius(20, 9, l2=l2, bound=bound) > confidence_radius(20, 3, l2=l2, bound=bound)
    # Features ten times as long and weights ten times as short are the same problem.
    same = confidence_radius(n, r, l2=100 * l2, bound=bound / 10, reach=10.0, at_estimate=False)
    assert same == pytest.approx(confidence_radius(n, r, l2=l2, bound=bound, at_estimate=False))


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"l2": 0.0}, "l2=0.0"),
        ({"bound": -1.0}, "bound=-1.0"),
        ({"delta": 1.0}, "delta=1.0"),
        ({"n_answers": -1}, "-1"),
    ],
)
def test_the_confidence_radius_refuses_what_means_nothing(setting, says: str) -> None:
    with pytest.raises(InputError, match=says):
        confidence_radius(**({"n_answers": 5, "rank": 2, "l2": 1.0, "bound": 1.0} | setting))
