"""`copl` against plain Python loops: graph, experts, both losses, one gradient step of each, and new people."""

import math

import numpy as np
import pytest
import torch

from palate.errors import InputError
from palate.models import make
from palate.models.copl import CoPL, CoPLConfig, graph_loss
from palate.models.copl_network import GraphNetwork, SignedGraph
from palate.models.training import Rows, Scaling, TableEncoder, preference_loss, train, weights_of
from palate.testing import gain_over, identity_town, mirror_town
from palate.types import Comparisons, Items

DIM, PEOPLE, ITEMS, WIDTH, LAYERS = 2, 4, 6, 3, 2


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    items = Items.of(rng.normal(size=(ITEMS, DIM)), keys=np.arange(ITEMS) * 10)
    left = rng.integers(0, ITEMS, 14)
    right = (left + rng.integers(1, ITEMS, 14)) % ITEMS
    label = np.array([0, 1, 0.5, 1, 0.3, 0, 1, 1, 0, 0.8, 1, 0, 1, 0])
    weight = np.array([1, 2, 0.5, 1, 1, 1, 1, 3, 1, 1, 1, 1.0, 2, 1])
    return Comparisons.of(items, left, right, np.arange(14) % PEOPLE, label, weight=weight / weight.mean())


def leaky(x):
    return x if x > 0 else 0.2 * x


def gelu(x):
    return 0.5 * x * (1.0 + math.erf(x / math.sqrt(2.0)))


def softmax(x):
    top = max(x)
    total = sum(math.exp(value - top) for value in x)
    return [math.exp(value - top) / total for value in x]


def apply(matrix, x):
    return [sum(matrix[j][i] * x[i] for i in range(len(x))) for j in range(len(matrix))]


def log_loss(s, y):
    return -y * math.log(1 / (1 + math.exp(-s))) - (1 - y) * math.log(1 / (1 + math.exp(s)))


# -- the graph -----------------------------------------------------------------------------------------------------------


def edges(rows):
    """(person, item) -> weight of the edges to what was chosen, and of those to what was turned down."""
    chosen, rejected = {}, {}
    for i in range(len(rows)):
        strength = rows.weight[i] * (2 * rows.label[i] - 1)
        if strength == 0:
            continue
        winner, loser = (rows.left[i], rows.right[i]) if strength > 0 else (rows.right[i], rows.left[i])
        for graph, item in ((chosen, winner), (rejected, loser)):
            end = (int(rows.user[i]), int(item))
            graph[end] = graph.get(end, 0.0) + abs(strength)
    return chosen, rejected


def normalised(graph):
    degree_user, degree_item = {}, {}
    for (user, item), weight in graph.items():
        degree_user[user] = degree_user.get(user, 0.0) + weight
        degree_item[item] = degree_item.get(item, 0.0) + weight
    return {(u, i): w / math.sqrt(degree_user[u] * degree_item[i]) for (u, i), w in graph.items()}


def passed(own, plus, minus, weights):
    """One embedding after one layer, from the messages of the two kinds of edges."""
    by_plus = apply(weights[0], [p * e for p, e in zip(plus, own, strict=True)])
    by_minus = apply(weights[1], [m * e for m, e in zip(minus, own, strict=True)])
    by_self = apply(weights[2], own)
    return [leaky(plus[j] + by_plus[j] - (minus[j] + by_minus[j]) + by_self[j]) for j in range(WIDTH)]


def propagate(w, rows):
    graphs = [normalised(graph) for graph in edges(rows)]
    users, items = [list(row) for row in w["users"]], [list(row) for row in w["items"]]
    for weights in w["weights"]:
        messages_user = [[[0.0] * WIDTH for _ in range(PEOPLE)] for _ in graphs]
        messages_item = [[[0.0] * WIDTH for _ in range(ITEMS)] for _ in graphs]
        for kind, graph in enumerate(graphs):
            for (u, i), value in graph.items():
                for j in range(WIDTH):
                    messages_user[kind][u][j] += value * items[i][j]
                    messages_item[kind][i][j] += value * users[u][j]
        users, items = (
            [passed(users[u], messages_user[0][u], messages_user[1][u], weights) for u in range(PEOPLE)],
            [passed(items[i], messages_item[0][i], messages_item[1][i], weights) for i in range(ITEMS)],
        )
    return users, items


def graph_objective(w, rows, offset, l2):
    users, items = propagate(w, rows)
    total = 0.0
    for i in range(len(rows)):
        s = sum(users[rows.user[i]][j] * (items[rows.left[i]][j] - items[rows.right[i]][j]) for j in range(WIDTH))
        total += rows.weight[i] * log_loss(s + offset[i], rows.label[i]) / len(rows)
    return total + l2 * sum(float((array**2).sum()) for array in w.values())


def check_step(before, after, objective, tolerance=5e-6):
    """Every weight moved by minus the slope of `objective`."""
    for name, array in before.items():
        for index in np.ndindex(array.shape):
            value, sides = array[index], []
            for step in (1e-5, -1e-5):
                array[index] = value + step
                sides.append(objective())
            array[index] = value
            slope = (sides[0] - sides[1]) / 2e-5
            assert after[name][index] == pytest.approx(value - slope, abs=tolerance), (name, index)


PLAIN = {"optimizer": "sgd", "schedule": "constant", "warmup": 0.0, "weight_decay": 0.0, "clip": 0.0, "steps": 1}
PLAIN |= {"batch_size": 99, "learning_rate": 1.0}


def test_graph_loss_and_one_gradient_step(rows):
    from palate.models.training import TrainingConfig

    torch.manual_seed(0)
    network, l2 = GraphNetwork(PEOPLE, ITEMS, WIDTH, LAYERS, 0.01), 0.01
    before = {name: array.astype(np.float64) for name, array in weights_of(network).items()}
    offset = np.linspace(-0.4, 0.4, len(rows))
    side = rows.weight * (2 * rows.label - 1)
    graph = SignedGraph.of(rows.user, rows.left, rows.right, side, PEOPLE, ITEMS)
    ends = torch.from_numpy(rows.left.astype(np.int64)), torch.from_numpy(rows.right.astype(np.int64))
    objective = graph_loss(network, graph, Rows.of(rows, offset), ends, 0.0)
    record = train(network, objective, len(rows), TrainingConfig(**PLAIN), rng=np.random.default_rng(0))
    assert record.losses[0] == pytest.approx(graph_objective(before, rows, offset, l2), abs=1e-6)
    check_step(before, weights_of(network), lambda: graph_objective(before, rows, offset, l2))


def test_edges_left_out_are_made_up_for_by_the_others(rows):
    side = rows.weight * (2 * rows.label - 1)
    graph = SignedGraph.of(rows.user, rows.left, rows.right, side, PEOPLE, ITEMS)
    like = torch.zeros(1, dtype=torch.float64)
    whole = graph.matrices(1.0, None, like)[0].to_dense()
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([graph.matrices(0.75, generator, like)[0].to_dense() for _ in range(4000)])
    assert torch.allclose(drawn.mean(0), whole, atol=0.03)
    assert set(torch.unique(torch.round(drawn[:, whole > 0] / whole[whole > 0], decimals=6)).tolist()) == {
        0.0,
        1.333333,
    }


# -- the experts -----------------------------------------------------------------------------------------------------------


def routed(w, z):
    hidden = [leaky(h + b) for h, b in zip(apply(w["router.0.weight"], z), w["router.0.bias"], strict=True)]
    out = [h + b for h, b in zip(apply(w["router.2.weight"], hidden), w["router.2.bias"], strict=True)]
    share = softmax(out)
    return max(range(len(share)), key=lambda e: share[e]), max(share)


def low_rank(w, number, x):
    down = [sum(x[i] * w["down"][number][i][r] for i in range(DIM)) for r in range(w["down"].shape[2])]
    return [sum(down[r] * w["up"][number][r][j] for r in range(len(down))) for j in range(w["up"].shape[2])]


def reward(w, x, z, scale):
    expert, share = routed(w, z)
    hidden = [h + b for h, b in zip(apply(w["item.weight"], x), w["item.bias"], strict=True)]
    common, own = low_rank(w, -1, x), low_rank(w, expert, x)
    hidden = [hidden[j] + scale * (common[j] + share * own[j]) for j in range(len(hidden))]
    return sum(w["head.weight"][0][j] * gelu(hidden[j]) for j in range(len(hidden)))


def expert_objective(w, rows, features, offset, scale):
    total = 0.0
    for i in range(len(rows)):
        z = w["people"][rows.user[i]]
        s = reward(w, features[rows.left[i]], z, scale) - reward(w, features[rows.right[i]], z, scale) + offset[i]
        total += rows.weight[i] * log_loss(s, rows.label[i]) / len(rows)
    return total


def small(**changes):
    base = {"graph_width": WIDTH, "graph_layers": LAYERS, "width": 4, "experts": 3, "rank": 2, "router_width": 5}
    return CoPL(**(base | {"dropout": 0.0, "edge_dropout": 0.0, "alpha": 3.0} | changes))


def test_expert_loss_and_one_gradient_step(rows):
    method = small(**PLAIN)
    network = method.module(DIM, PEOPLE, 0)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        network.up.normal_(generator=generator)
        network.people.normal_(generator=generator)
    before = {name: array.astype(np.float64) for name, array in weights_of(network).items()}
    assert len({routed(before, z)[0] for z in before["people"]}) > 1
    features = Scaling.of(rows)(rows.items)
    offset = np.linspace(-0.4, 0.4, len(rows))
    objective = preference_loss(network, TableEncoder(features), Rows.of(rows, offset))
    record = train(network, objective, len(rows), method.config, rng=np.random.default_rng(0))
    given = (rows, features.astype(float).tolist(), offset, 1.5)
    assert record.losses[0] == pytest.approx(expert_objective(before, *given), abs=1e-6)
    after = weights_of(network)
    np.testing.assert_array_equal(after["people"], before["people"].astype(np.float32))
    people = before["people"]
    learned = {name: array for name, array in before.items() if name != "people"}
    check_step(learned, after, lambda: expert_objective({**learned, "people": people}, *given))


def test_rewards_are_the_loops(rows):
    method = small(steps=40, graph_steps=40).fit(rows, rng=0)
    features = Scaling(method.mean_, method.scale_)(rows.items).astype(float).tolist()
    weights = {name: array.astype(np.float64) for name, array in method.weights_.items()}
    found = method.reward(rows.items, method.states_)
    for person, z in enumerate(method.states_.arrays["embedding"] / method.size_):
        for item in range(ITEMS):
            assert found[person, item] == pytest.approx(reward(weights, features[item], z, 1.5), abs=1e-9)


# -- new people ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_new_people_are_weighted_means_of_neighbours(rows, temperature):
    method = small(steps=5, graph_steps=40, temperature=temperature).fit(rows, rng=0)
    chosen, _ = edges(rows)
    new = rows.take(np.array([0, 1, 2, 3, 5, 8, 9]))
    states = method.adapt(new)
    for person in range(PEOPLE):
        own = [i for i in range(len(new)) if new.user[i] == person]
        mine = {int(new.left[i] if new.label[i] > 0.5 else new.right[i]) for i in own if new.label[i] != 0.5}
        near = [u for u in range(PEOPLE) if any((u, item) in chosen for item in mine)]
        said = []
        for u in near or range(PEOPLE):
            total = 0.0
            for i in own if near else ():
                s = float(method.people_[u] @ (method.items_[new.left[i]] - method.items_[new.right[i]]))
                total -= new.weight[i] * log_loss(s, new.label[i])
            said.append(total / sum(new.weight[i] for i in own) if near else 0.0)
        share = softmax([value / temperature for value in said])
        expected = sum(p * method.people_[u] for p, u in zip(share, near or range(PEOPLE), strict=True))
        np.testing.assert_allclose(states.arrays["embedding"][person], expected, atol=1e-9)


def test_without_features_the_graph_predicts(rows):
    bare = Items.of(np.zeros((ITEMS, 0)), keys=rows.items.keys)
    given = Comparisons.of(bare, rows.left, rows.right, rows.user, rows.label, weight=rows.weight)
    method = small(graph_steps=40).fit(given, rng=0)
    expected = method.people_ @ method.items_.T
    np.testing.assert_allclose(method.reward(bare, method.states_), expected, atol=1e-12)
    unknown = Items.of(np.zeros((1, 0)), keys=np.array([77]))
    assert method.reward(unknown, method.states_).tolist() == [[0.0]] * PEOPLE


def test_the_graph_alone_beats_pooled_on_contested_items():
    assert gain_over(make("copl"), make("pooled"), identity_town(minority=0.4, n_users=100)) >= 0.05


def test_says_what_it_needs(rows):
    half_known = Items.of(rows.items.features, keys=np.where(np.arange(ITEMS) == 0, 5, -1))
    given = Comparisons.of(half_known, rows.left, rows.right, rows.user, rows.label)
    with pytest.raises(InputError, match="needs comparisons between known items"):
        small(steps=2, graph_steps=2).fit(given, rng=0)


def test_paper_preset_is_the_papers():
    paper = CoPLConfig.paper()
    assert (paper.graph_layers, paper.graph_width, paper.graph_batch_size, paper.graph_epochs) == (4, 512, 1024, 100)
    assert (paper.edge_dropout, paper.graph_l2, paper.graph_learning_rate, paper.warmup) == (0.1, 1e-6, 1e-4, 0.1)
    assert (paper.experts, paper.rank, paper.alpha, paper.dropout, paper.router_width) == (8, 8, 16.0, 0.1, 256)
    assert (paper.steps, paper.learning_rate, paper.temperature) == (1500, 5e-5, 0.07)
    count = sum(parameter.numel() for parameter in CoPL(paper).module(10, 3, 0).parameters())
    router = 512 * 256 + 256 + 256 * 8 + 8
    assert count == (10 * 2048 + 2048) + 9 * (10 * 8 + 8 * 2048) + 2048 + router
    town = mirror_town(n_users=6, n_new=2, rows_per_user=8, history_per_user=4, heldout_per_user=4)
    method = CoPL(paper.replace(graph_steps=1, steps=1)).fit(town.train, rng=0)
    assert method.people_.shape == (6, 512) and method.items_.shape[1] == 512
