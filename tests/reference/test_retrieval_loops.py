"""`retrieval` against plain Python loops: who is similar, what is nearest, and what they vote."""

import math

import numpy as np
import pytest

from palate.models import make
from palate.models.retrieval import Retrieval, nearest
from palate.testing import check_method, gain_over, lone_people
from palate.types import Comparisons, Items

DIM, PEOPLE = 3, 5


@pytest.fixture
def rows():
    rng = np.random.default_rng(3)
    items = Items.of(rng.normal(size=(10, DIM)))
    pairs = rng.permutation(np.column_stack(np.triu_indices(10, k=1)))[:24]  # distinct: no two are equally near
    left, right = np.where(np.arange(24) % 2, pairs.T, pairs.T[::-1])
    label = rng.choice([0.0, 1.0, 0.5, 0.8], 24)
    weight = rng.choice([1.0, 2.0, 0.5, 0.0], 24, p=[0.6, 0.2, 0.1, 0.1])
    user = np.arange(24) % (PEOPLE - 1)
    return Comparisons.of(items, left, right, user, label, n_users=PEOPLE, weight=weight)


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def unit(a):
    length = math.sqrt(dot(a, a))
    return [x / length for x in a] if length else [0.0 for _ in a]


def scaled(rows):
    """Every item's features over the weighted root mean square pair difference, centred on the items that occur."""
    features = rows.items.features.astype(float).tolist()
    counted = [i for i in range(len(rows)) if rows.weight[i] > 0]
    total = sum(rows.weight[i] for i in counted)
    scale = []
    for j in range(DIM):
        square = sum(rows.weight[i] * (features[rows.left[i]][j] - features[rows.right[i]][j]) ** 2 for i in counted)
        scale.append(math.sqrt(square / total))
    used = sorted({int(side[i]) for i in counted for side in (rows.left, rows.right)})
    center = [sum(features[i][j] for i in used) / len(used) / scale[j] for j in range(DIM)]
    return [[x[j] / scale[j] - center[j] for j in range(DIM)] for x in features]


def comparison(x, left, right):
    """Direction and middle of a pair."""
    return (
        unit([a - b for a, b in zip(x[left], x[right], strict=True)]),
        unit([a + b for a, b in zip(x[left], x[right], strict=True)]),
    )


def memory_of(x, rows, person):
    """(direction, middle, side, weight) of each of a person's comparisons."""
    return [
        (*comparison(x, rows.left[i], rows.right[i]), 2 * rows.label[i] - 1, rows.weight[i])
        for i in range(len(rows))
        if rows.user[i] == person and rows.weight[i] > 0
    ]


def total(memory):
    return [sum(side * weight * v[j] for v, _, side, weight in memory) for j in range(DIM)]


def weight_of(memory):
    return sum(weight for *_, weight in memory)


def similar(memories, own, skip, count):
    """The training people whose profiles point most like that of `own`."""
    answered = [u for u, memory in enumerate(memories) if memory]
    means = [[t / weight_of(memories[u]) for t in total(memories[u])] for u in answered]
    average = [sum(mean[j] for mean in means) / len(means) for j in range(DIM)]

    def profile(memory):
        summed = total(memory)
        return [(summed[j] + average[j]) / (weight_of(memory) + 1) for j in range(DIM)]

    mine = unit(profile(own))
    ranked = sorted((-dot(mine, unit(profile(memories[u]))), u) for u in answered if u != skip)
    return [u for _, u in ranked[:count]]


def vote(question, memory, k, nearness):
    """Weights are taken from the nearest on until k of them are."""
    v, middle = question
    near = [abs(dot(v, row[0])) if nearness == "choice" else dot(middle, row[1]) for row in memory]
    left, voted = k, 0.0
    for i in sorted(range(len(memory)), key=lambda i: -near[i]):
        taken = min(left, memory[i][3])
        voted += taken * memory[i][2] * dot(v, memory[i][0])
        left -= taken
    return voted / k


@pytest.mark.parametrize("nearness", ["choice", "question"])
@pytest.mark.parametrize(("k", "borrow"), [(3, 0), (4, 2), (50, 3)])
def test_preferences_are_the_loops(rows, nearness, k, borrow):
    method = Retrieval(neighbours=k, nearness=nearness, borrow=borrow).fit(rows, rng=0)
    x = scaled(rows)
    training = [memory_of(x, rows, person) for person in range(PEOPLE)]
    new = rows.take(np.arange(0, 24, 3))
    states = method.adapt(new)
    everybody = np.arange(10)
    for given, found, seen in ((rows, method.states_, True), (new, states, False)):
        for person in range(PEOPLE):
            own = memory_of(x, given, person)
            friends = similar(training, own, person if seen else None, borrow)
            assert found.arrays["similar"][person].tolist() == friends
            memory = own + [row for friend in friends for row in training[friend]]
            for left in (0, 3, 7):
                other = rows.items.take((everybody + 1) % 10)
                asked = method.prefer(rows.items, other, found, np.full(10, person))
                expected = method.sharpness_ * vote(comparison(x, left, (left + 1) % 10), memory, k, nearness)
                assert asked[left] == pytest.approx(1 / (1 + math.exp(-expected)), abs=1e-6)


def test_sharpness_is_learned_from_answers_predicted_by_the_others(rows):
    method = Retrieval(neighbours=3, borrow=2).fit(rows, rng=0)
    x = scaled(rows)
    training = [memory_of(x, rows, person) for person in range(PEOPLE)]
    votes, labels, weights = [], [], []
    for person in range(PEOPLE):
        own = [i for i in range(24) if rows.user[i] == person and rows.weight[i] > 0]
        for place, i in enumerate(own):
            others = training[person][:place] + training[person][place + 1 :]
            memory = others + [row for u in similar(training, others, person, 2) for row in training[u]]
            votes.append(vote(comparison(x, rows.left[i], rows.right[i]), memory, 3, "choice"))
            labels.append(rows.label[i])
            weights.append(rows.weight[i])

    def loss(sharpness):
        found = 5e-4 * sharpness**2
        for v, y, c in zip(votes, labels, weights, strict=True):
            found += c * (math.log1p(math.exp(sharpness * v)) - y * sharpness * v)
        return found

    best = min((loss(value), value) for value in np.linspace(0, 20, 20001))[1]
    assert method.sharpness_ == pytest.approx(best, abs=2e-3)


@pytest.mark.parametrize("answers", [1, 2, 5])
def test_nothing_is_learned_from_coins(answers):
    """An answer that finds its own friends would be confirmed by them: sharpness 27 to 66 for coins, log-loss 2.5 to 6.9."""
    rng = np.random.default_rng(0)
    items, user = Items.of(rng.normal(size=(400, 16))), np.repeat(np.arange(2000 // answers), answers)
    left = rng.integers(400, size=len(user))
    right = (left + rng.integers(1, 400, size=len(user))) % 400
    coins = rng.integers(2, size=(2, len(user)))
    rows = Comparisons.of(items, left, right, user, coins[0], n_users=2000 // answers)
    method = Retrieval(borrow=8).fit(rows, rng=0)
    chance = method.prefer(items.take(left), items.take(right), method.states_, user)
    assert -np.mean(np.log(np.where(coins[1], chance, 1 - chance))) < math.log(2) + 0.05


def test_nearest_takes_weight_from_the_nearest_and_ties_share():
    near = np.array([[0.9, 0.5, 0.5, 0.1], [0.2, 0.2, 0.2, 0.2]])
    weight = np.array([[1.0, 3.0, 1.0, 5.0], [1.0, 1.0, 0.0, 2.0]])
    counted = nearest(near, weight, 3.0)
    np.testing.assert_allclose(counted[0], [1.0, 1.5, 0.5, 0.0])
    np.testing.assert_allclose(counted[1], [0.75, 0.75, 0.0, 1.5])
    np.testing.assert_allclose(nearest(near, weight, 100.0), weight)
    assert nearest(np.zeros((2, 0)), np.zeros((2, 0)), 3.0).shape == (2, 0)


def test_presets_are_the_papers():
    paper, metalearn = Retrieval.Config.paper(), Retrieval.Config.metalearn()
    assert (paper.neighbours, paper.nearness, paper.borrow) == (3, "question", 0)
    assert metalearn.neighbours == 8 and metalearn.borrow > 0
    skip = {"recovers_the_town"}
    assert skip < set(check_method(lambda: make("retrieval", **paper.model_dump()), skip=skip).skipped)


def test_own_comparisons_alone_beat_pooled_where_others_teach_nothing():
    world = lone_people(rows_per_user=150)
    alone = gain_over(make("retrieval", borrow=0), make("pooled"), world)
    assert alone >= 0.15
    assert alone > gain_over(make("retrieval", borrow=12), make("pooled"), world) + 0.05
