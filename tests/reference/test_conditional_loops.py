"""`conditional` against plain Python loops: rewards, loss, one gradient step, and where a new person is placed."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from palate.models import make
from palate.models.training import Rows, Scaling, TableEncoder, load_weights, preference_loss, train, weights_of
from palate.testing import mirror_town
from palate.types import Comparisons, Items

DIM, PEOPLE, WIDTH, Q = 3, 4, 5, 2


def gelu(x):
    return 0.5 * x * (1.0 + math.erf(x / math.sqrt(2.0)))


def reward(w, x, e):
    """r = v·gelu(W₂ gelu(W₁ x + U e + b₁) + b₂), number by number."""
    first = []
    for j in range(WIDTH):
        total = w["item.bias"][j]
        for i in range(len(x)):
            total += w["item.weight"][j][i] * x[i]
        for i in range(len(e)):
            total += w["person.weight"][j][i] * e[i]
        first.append(gelu(total))
    out = 0.0
    for j in range(WIDTH):
        total = w["rest.1.bias"][j]
        for i in range(WIDTH):
            total += w["rest.1.weight"][j][i] * first[i]
        out += w["rest.3.weight"][0][j] * gelu(total)
    return out


def loss(w, rows, features, offset):
    """Weighted Bradley–Terry loss per observation plus ½ Σ‖e‖² over the number of observations."""
    total, observations = 0.0, 0.0
    for i in range(len(rows)):
        e = w["people.weight"][rows.user[i]]
        s = reward(w, features[rows.left[i]], e) - reward(w, features[rows.right[i]], e) + offset[i]
        y = rows.label[i]
        total += rows.weight[i] * (-y * math.log(1 / (1 + math.exp(-s))) - (1 - y) * math.log(1 / (1 + math.exp(s))))
        observations += rows.weight[i]
    for e in w["people.weight"]:
        for number in e:
            total += 0.5 * number * number
    return total / observations


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    items = Items.of(rng.normal(size=(9, DIM)))
    left = rng.integers(0, 9, 12)
    right = (left + rng.integers(1, 9, 12)) % 9
    label = np.array([0, 1, 0.5, 1, 0.3, 0, 1, 1, 0, 0.5, 1, 0])
    weight = np.array([1, 2, 0.5, 1, 1, 0, 1, 3, 1, 1, 1, 1.0])
    return Comparisons.of(items, left, right, rng.integers(0, PEOPLE, 12), label, n_users=PEOPLE, weight=weight)


def settings(**changes):
    base = {"width": WIDTH, "layers": 2, "user_dim": Q, "optimizer": "sgd", "schedule": "constant", "warmup": 0.0}
    return base | {"weight_decay": 0.0, "clip": 0.0, "steps": 1, "batch_size": 99, "learning_rate": 1.0} | changes


def test_forward_loss_and_one_gradient_step(rows):
    method = make("conditional", **settings())
    network = method.module(DIM, PEOPLE, 0)
    before = {name: array.astype(np.float64) for name, array in weights_of(network).items()}
    features = Scaling.of(rows)(rows.items)
    offset = np.linspace(-0.5, 0.5, len(rows))
    tensors = Rows.of(rows, offset)
    objective = preference_loss(network, TableEncoder(features), tensors)
    record = train(network, objective, len(tensors), method.config, rng=np.random.default_rng(0))
    assert record.steps == 1
    assert record.losses[0] == pytest.approx(loss(before, rows, features, offset), abs=1e-6)
    after = weights_of(network)
    for name, array in before.items():
        for index in np.ndindex(array.shape):
            value = array[index]
            sides = []
            for step in (1e-5, -1e-5):
                array[index] = value + step
                sides.append(loss(before, rows, features, offset))
            array[index] = value
            slope = (sides[0] - sides[1]) / 2e-5
            assert after[name][index] == pytest.approx(value - slope, abs=2e-6), (name, index)


def test_predictions_are_the_loops_rewards(rows):
    method = make("conditional", **settings(steps=50, learning_rate=0.1)).fit(rows, rng=0)
    features = Scaling(method.mean_, method.scale_)(rows.items)
    rewards = method.reward(rows.items, method.states_)
    weights = {name: array.astype(np.float64) for name, array in method.weights_.items()}
    for person in range(PEOPLE):
        e = method.states_.arrays["embedding"][person]
        for item in range(len(features)):
            assert rewards[person, item] == pytest.approx(reward(weights, features[item], e), abs=1e-9)


def test_new_person_is_placed_at_the_posterior_mode(rows):
    method = make("conditional", **settings(steps=100, learning_rate=0.3, adapt_steps=100)).fit(rows, rng=0)
    features = Scaling(method.mean_, method.scale_)(rows.items)
    states = method.adapt(rows)
    for person in range(PEOPLE):
        own = rows.for_users(np.array([person]))

        def objective(e, own=own):
            deviation = e - method.prior_mean_
            total = 0.5 * deviation @ method.prior_precision_ @ deviation
            for i in range(len(own)):
                s = reward(method.weights_, features[own.left[i]], e)
                s -= reward(method.weights_, features[own.right[i]], e)
                total += own.weight[i] * (np.logaddexp(0, s) - own.label[i] * s)
            return total

        best = minimize(objective, method.prior_mean_, method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12})
        assert objective(states.arrays["embedding"][person]) <= best.fun + 1e-8


def test_linear_head_on_concatenated_features_cancels():
    """Why the head is not linear: with one, everybody gets the same preferences; with the MLP they do not."""
    world = mirror_town(n_users=20, n_new=4, seed=3)
    method = make("conditional", steps=200).fit(world.train, rng=0)
    rows = world.heldout
    left, right = world.items.take(rows.left), world.items.take(rows.right)
    nobody = np.zeros(len(rows), int)
    by_person = [method.prefer(left, right, method.states_.take(np.array([u])), nobody) for u in range(20)]
    assert np.ptp(by_person, axis=0).max() > 0.5

    w = np.random.default_rng(0).normal(size=world.items.dim + 4)
    embeddings = np.random.default_rng(1).normal(size=(20, 4))
    joined = [np.hstack([world.items.features, np.tile(e, (len(world.items), 1))]) @ w for e in embeddings]
    margins = [reward[rows.left] - reward[rows.right] for reward in joined]
    assert np.ptp(margins, axis=0).max() < 1e-12


def test_prefix_mode_tells_people_apart_by_the_features_they_come_with():
    """Each person's copy of an item has features of its own; one head serves everybody, and strangers the generic."""
    world = mirror_town(n_users=30, seed=5)
    n = len(world.items)
    camp = np.where(world.minority, -1.0, 1.0)
    plain = world.items.features
    own = [np.column_stack([sign * plain[:, 0], plain[:, 1:]]) for sign in camp]
    expanded = Items.of(np.vstack([plain, *own]))

    def moved(rows):
        shift = n * (1 + rows.user)
        return Comparisons.of(expanded, rows.left + shift, rows.right + shift, rows.user, rows.label, n_users=30)

    method = make("conditional", mode="prefix", steps=300).fit(moved(world.train), rng=0)
    rows = moved(world.heldout)
    asked = method.prefer(expanded.take(rows.left), expanded.take(rows.right), method.states_, rows.user)
    assert world.decided("heldout", asked, world.minority) >= 0.9
    stranger = method.adapt(moved(world.train).take(np.arange(10)))
    assert stranger.arrays == {} and len(stranger) == 30
    generic = world.heldout
    pooled = method.prefer(world.items.take(generic.left), world.items.take(generic.right), stranger, generic.user)
    assert world.decided("heldout", pooled, world.minority) < 0.5


def test_weights_survive_numpy():
    network = make("conditional").module(DIM, PEOPLE, 0)
    weights = weights_of(network)
    other = load_weights(make("conditional").module(DIM, PEOPLE, 1), weights)
    assert all(np.array_equal(array, weights_of(other)[name]) for name, array in weights.items())
