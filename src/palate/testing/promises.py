"""Checks of what a method promises by its traits, on worlds whose right answer is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from palate.models.base import Method, Traits
from palate.models.linear import LinearMethod
from palate.testing.subject import Subject, ensure, ensure_close, predictions
from palate.testing.worlds import World, scattered_town
from palate.types import Comparisons, UserStates

__all__ = ["SEEN_FLOOR", "decided_by_minority", "gain_over", "learning_curve"]

SEEN_FLOOR, MINORITY_FLOOR = 0.95, 0.90
ANSWERS = (0, 1, 3, 5, 10, 20)


def row_order_is_irrelevant(subject: Subject) -> None:
    """A person's rows in another order give the same state (trait `exchangeable`)."""
    method, world = subject.small, subject.hamlet
    order = np.random.default_rng(subject.seed).permutation(len(world.history))
    pair = [predictions(method, world.test, method.adapt(rows)) for rows in (world.history, world.history.take(order))]
    ensure_close(*pair, "answers in two orders")


def duplicate_is_weight_two(subject: Subject) -> None:
    """A row given twice is a row of weight 2 when adapting (trait `weighted`)."""
    method, world = subject.small, subject.hamlet
    rows = world.history
    chosen = np.arange(len(rows)) % 3 == 0
    twice = rows.take(np.concatenate([np.arange(len(rows)), np.flatnonzero(chosen)]))
    heavy = replace(rows, weight=np.where(chosen, 2.0, 1.0))
    pair = [predictions(method, world.test, method.adapt(given)) for given in (twice, heavy)]
    ensure_close(*pair, "rows given twice and rows of weight 2")
    plain = predictions(method, world.test, method.adapt(rows))
    if subject.traits.adapts:
        ensure(bool(np.any(np.abs(plain - pair[0]) > 1e-9)), "repeating rows has no effect at all")


def weightless_rows_teach_nothing(subject: Subject) -> None:
    """Training rows of weight 0 do not count, even when they all lie (trait `weighted`)."""
    world = subject.world
    train = world.train
    rows = train.take(np.concatenate([np.arange(len(train))] * 2))
    lies = np.arange(len(rows)) >= len(train)
    method = subject.fit(
        replace(rows, label=np.where(lies, 1.0 - rows.label, rows.label), weight=1.0 - lies), fully=True
    )
    spoiled = world.decided("heldout", predictions(method, world.heldout, method.states_))
    clean = world.decided("heldout", predictions(subject.fitted, world.heldout, subject.fitted.states_))
    ensure(
        spoiled >= clean - 0.05, f"{clean:.3f} of the decisions right; {spoiled:.3f} when lies of weight 0 are added"
    )


def recovers_the_town(subject: Subject) -> None:
    """Seen people's noise-free decisions: at least 95 % right over all, 90 % over the minority (trait `adapts`).

    A method that gives everybody the same reward must fail here: it decides for the minority as the majority would.
    """
    world, method = subject.world, subject.fitted
    asked = predictions(method, world.heldout, method.states_)
    everyone = world.decided("heldout", asked)
    ensure(everyone >= SEEN_FLOOR, f"{everyone:.3f} of seen people's decisions right; at least {SEEN_FLOOR} is asked")
    few = world.decided("heldout", asked, world.minority)
    ensure(few >= MINORITY_FLOOR, f"{few:.3f} of the minority's decisions right; at least {MINORITY_FLOOR} is asked")


def learns_from_answers(subject: Subject) -> None:
    """New people's accuracy never falls beyond its error as answers come in, and rises in all (trait `adapts`)."""
    curve = learning_curve(subject.fitted, subject.world)
    counts = sorted(curve)
    for before, after in zip(counts, counts[1:], strict=False):
        gain = curve[after] - curve[before]
        error = 2.5 * gain.std(ddof=1) / np.sqrt(len(gain)) + 0.005
        ensure(
            gain.mean() >= -error,
            f"accuracy falls from {curve[before].mean():.3f} at {before} answers to "
            f"{curve[after].mean():.3f} at {after} (error {error:.3f})",
        )
    gain = curve[counts[-1]] - curve[0]
    error = 2.0 * gain.std(ddof=1) / np.sqrt(len(gain))
    ensure(gain.mean() > error, f"{counts[-1]} answers gain {gain.mean():.3f} ± {error:.3f} over none")


def learning_curve(method: Method, world: World, answers: tuple[int, ...] = ANSWERS) -> dict[int, np.ndarray]:
    """Share of noise-free test decisions right after the first k answers of every new person.

    Returns:
        k -> (n_new,) shares, for each k up to the length of the histories.
    """
    rows = world.history
    order, offsets = rows.by_user()
    position = np.empty(len(rows), int)
    position[order] = np.arange(len(rows)) - np.repeat(offsets[:-1], np.diff(offsets))
    curve = {}
    for k in (k for k in answers if k <= rows.counts().max(initial=0)):
        asked = predictions(method, world.test, method.adapt(rows.take(position < k)))
        curve[k] = world.decided_by_person("test", asked)
    return curve


def reward_orders_preferences(subject: Subject) -> None:
    """`reward` is (people, items), finite, and the item with more of it is preferred (trait `scalar`)."""
    method, world = subject.small, subject.hamlet
    states = method.adapt(world.history)
    reward = method.reward(world.items, states)
    shape = (len(states), len(world.items))
    ensure(reward.shape == shape, f"rewards have shape {reward.shape}; expected {shape}")
    ensure(bool(np.isfinite(reward).all()), "a reward is not finite")
    rows = world.test
    margin = reward[rows.user, rows.left] - reward[rows.user, rows.right]
    asked = predictions(method, rows, states)
    clear = np.abs(margin) > 1e-5
    ensure(
        bool(np.all((asked[clear] > 0.5) == (margin[clear] > 0))),
        "the item with the higher reward is not the preferred one",
    )
    if not subject.traits.posterior:
        ensure_close(asked, expit(margin), "prefer and σ of the difference of rewards")
    some = method.reward(world.items.take(np.array([3, 1])), states.take(np.array([2])))
    ensure_close(some, reward[[2]][:, [3, 1]], "rewards of some items for one person and of all")


def linear_parts_add_up(subject: Subject) -> None:
    """reward = offset(x) + basis(x)·mean, with covariances that are covariances (trait `linear`)."""
    method, world = subject.small, subject.hamlet
    states = method.adapt(world.history)
    basis, offset = method.basis(world.items), method.offset(world.items)
    mean, covariance = states.arrays["mean"], states.arrays["covariance"]
    ensure_close(method.reward(world.items, states), offset + mean @ basis.T, "reward and offset + basis·mean")
    ensure_close(covariance, covariance.transpose(0, 2, 1), "covariance and its transpose", 1e-9)
    smallest = float(np.linalg.eigvalsh(covariance).min(initial=0.0))
    ensure(smallest >= -1e-9, f"a covariance has the eigenvalue {smallest:.3g}")


def posterior_shrinks(subject: Subject) -> None:
    """The more answers, the less uncertain the margins of new people (trait `posterior`)."""
    method, world = subject.fitted, subject.world
    order, offsets = world.history.by_user()
    position = np.empty(len(order), int)
    position[order] = np.arange(len(order)) - np.repeat(offsets[:-1], np.diff(offsets))
    deviations = []
    for k in (0, 5, 20):
        states = method.adapt(world.history.take(position < k))
        deviations.append(float(margin_moments(method, world.test, states)[1].mean()))
    ensure(
        deviations[0] > deviations[1] > deviations[2],
        "mean standard deviation of a margin after 0, 5, 20 answers: " + ", ".join(f"{d:.3f}" for d in deviations),
    )


def posterior_covers_the_truth(subject: Subject) -> None:
    """Nominal 50 % and 90 % intervals of new people's true margins hold what they say (trait `posterior`).

    On people scattered as the prior supposes. The bands are wide: what all share is estimated too, which a posterior
    may leave out (fewer hits) or allow for generously (more hits); but far too many are as wrong as too few.
    """
    world = subject.dressed(scattered_town(seed=subject.seed, history_per_user=12))
    method = subject.fit(world.train, fully=True)
    mean, deviation = margin_moments(method, world.test, method.adapt(world.history), noise=False)
    distance = np.abs(world.margins("test") - mean) / deviation
    for level, low, high in ((0.5, 0.38, 0.72), (0.9, 0.80, 0.985)):
        hit = float((distance <= norm.ppf(0.5 + level / 2)).mean())
        ensure(low <= hit <= high, f"{level:.0%} intervals hold the true margin in {hit:.1%} ({low:.0%} to {high:.0%})")


def prefer_is_the_predictive(subject: Subject) -> None:
    """`prefer` is the mean of σ(margin) over the posterior, by quadrature (trait `posterior`).

    A method that learned `temper_`, a factor on the margin, is held to the tempered margin.
    """
    method, world = subject.small, subject.hamlet
    temper = method.temper_ if isinstance(method, LinearMethod) else 1.0
    for states in (method.adapt(world.history), method.prior_.repeat(world.history.n_users)):
        mean, deviation = margin_moments(method, world.test, states)
        node, weight = np.polynomial.hermite_e.hermegauss(80)
        expected = expit(temper * (mean[:, None] + deviation[:, None] * node)) @ (weight / weight.sum())
        ensure_close(predictions(method, world.test, states), expected, "prefer and the quadrature", 5e-3)


def margin_moments(
    method: Method, rows: Comparisons, states: UserStates, *, noise: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """(m,) posterior mean and standard deviation of each row's margin, of a linear method.

    With `noise`, what no answer of the person can tell about the items is part of the deviation.
    """
    left, right = rows.items.take(rows.left), rows.items.take(rows.right)
    basis = method.basis(left) - method.basis(right)
    mean = method.offset(left) - method.offset(right)
    mean = mean + np.einsum("mr,mr->m", basis, states.arrays["mean"][rows.user])
    if rows.items.base_reward is not None:
        mean = mean + method.base_scale_ * (left.base_reward - right.base_reward)
    variance = np.einsum("mr,mrs,ms->m", basis, states.arrays["covariance"][rows.user], basis)
    if noise and isinstance(method, LinearMethod):
        variance = variance + method.noise(left) + method.noise(right)
    return mean, np.sqrt(np.maximum(variance, 0.0))


def trainable_has_a_module(subject: Subject) -> None:
    """`module()` gives a fresh torch module with parameters (trait `trainable`)."""
    module = subject.factory().module(dim=subject.hamlet.items.dim, n_users=5, rng=subject.seed)
    ensure(any(parameter.requires_grad for parameter in module.parameters()), "the module has nothing to train")


def gain_over(method: Method, baseline: Method, world: World, part: Literal["heldout", "test"] = "heldout") -> float:
    """How many more noise-free decisions `method` gets right than `baseline`, both fitted here.

    Of seen people ("heldout"), or of new people adapted to their whole histories ("test").
    """
    shares = []
    for fitted in (method, baseline):
        fitted.fit(world.train, rng=0)
        states = fitted.states_ if part == "heldout" else fitted.adapt(world.history)
        shares.append(world.decided(part, predictions(fitted, getattr(world, part), states)))
    return shares[0] - shares[1]


def decided_by_minority(method: Method, world: World) -> float:
    """Share of the seen minority's noise-free decisions that a fitted method gets right."""
    return world.decided("heldout", predictions(method, world.heldout, method.states_), world.minority)


def _needs(trait: str, reason: str) -> Callable[[Traits], str | None]:
    return lambda traits: None if getattr(traits, trait) else reason


_EXCHANGEABLE = _needs("exchangeable", "the order of rows means something to this method")
_WEIGHTED = _needs("weighted", "this method does not use weights")
_ADAPTS = _needs("adapts", "this method gives everybody the same reward")
_SCALAR = _needs("scalar", "this method has no scalar reward")
_LINEAR = _needs("linear", "this method is not linear in a basis")
_POSTERIOR = _needs("posterior", "this method has no posterior")
_TRAINABLE = _needs("trainable", "this method has no torch module")


def _posterior_of_linear(traits: Traits) -> str | None:
    return _POSTERIOR(traits) or _LINEAR(traits)


CHECKS = (
    (row_order_is_irrelevant, _EXCHANGEABLE),
    (duplicate_is_weight_two, _WEIGHTED),
    (weightless_rows_teach_nothing, _WEIGHTED),
    (recovers_the_town, _ADAPTS),
    (learns_from_answers, _ADAPTS),
    (reward_orders_preferences, _SCALAR),
    (linear_parts_add_up, _LINEAR),
    (posterior_shrinks, _posterior_of_linear),
    (posterior_covers_the_truth, _posterior_of_linear),
    (prefer_is_the_predictive, _posterior_of_linear),
    (trainable_has_a_module, _TRAINABLE),
)
"""All checks of promises with the condition under which each applies."""
