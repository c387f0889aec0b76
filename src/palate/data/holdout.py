"""Which rows of each person are held out: by items, so that the two parts share none, or by time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, dijkstra

from palate.data.text import fractions, mix

__all__ = ["Holdout", "hold_out_items", "hold_out_late"]


@dataclass(frozen=True)
class Holdout:
    """Rows in two parts per person, and those that belong to neither.

    Args:
        history: (m,) mask of the rows to learn from.
        heldout: (m,) mask of the rows to be tested on.
    """

    history: np.ndarray
    heldout: np.ndarray

    @property
    def mixed(self) -> np.ndarray:
        """(m,) mask of the rows in neither part, which would join the two."""
        return ~(self.history | self.heldout)


def hold_out_items(
    user: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    *,
    user_keys: np.ndarray,
    item_keys: np.ndarray,
    share: float,
    salt: str,
) -> Holdout:
    """Hold out rows of each person such that no held-out row shares an item with the person's other rows.

    A person's rows are the edges of a graph over their items. Starting from an item drawn by hash, items are taken
    breadth first, one connected piece after another, until about `share` of the person's rows lie wholly among the
    taken items: those are held out. Rows with one taken and one other item are dropped. Where a person's pairs are
    mostly disjoint (a new prompt each time) nothing is lost; where each item is met d times over, the border of the
    taken region is, which grows with d, towards the 2√s(1 - √s) of a person who compared everything with everything
    (s the share). A person whose history would be empty keeps all rows there.

    Args:
        user, left, right: (m,) numbers of person and items.
        user_keys: (n_users,) stable keys, so that a person's split depends on nobody else.
        item_keys: (n_items,) stable keys.
        share: wanted fraction of each person's rows, in (0, 1).
        salt: another salt, another draw.
    """
    m = len(user)
    if m == 0:
        return Holdout(np.zeros(0, bool), np.zeros(0, bool))
    # A node is one item as met by one person.
    code = np.concatenate([user, user]).astype(np.int64) * len(item_keys) + np.concatenate([left, right])
    nodes, node = np.unique(code, return_inverse=True)
    first, second = node[:m], node[m:]
    owner = nodes // len(item_keys)
    draw = fractions(mix(user_keys[owner], salt) ^ item_keys[nodes % len(item_keys)].astype(np.uint64), salt)
    rank = _breadth_first_ranks(first, second, owner, draw)
    low, high = np.minimum(rank[first], rank[second]), np.maximum(rank[first], rank[second])

    total = np.bincount(user, minlength=len(user_keys))
    wanted = np.floor(total * share + 0.5).astype(np.int64)
    order = np.lexsort((high, user))
    start = np.concatenate([[0], np.cumsum(total)])
    some = wanted > 0
    limit = np.full(len(user_keys), -1, np.int64)
    limit[some] = high[order[start[:-1][some] + wanted[some] - 1]]
    heldout, history = high <= limit[user], low > limit[user]
    hopeless = np.bincount(user[history], minlength=len(user_keys)) == 0
    return Holdout(history | hopeless[user], heldout & ~hopeless[user])


def _breadth_first_ranks(first: np.ndarray, second: np.ndarray, owner: np.ndarray, draw: np.ndarray) -> np.ndarray:
    """(n,) rank of each node: people one after another, their pieces in drawn order, breadth first within."""
    n = len(owner)
    graph = coo_array((np.ones(len(first)), (first, second)), shape=(n, n)).tocsr()
    count, piece = connected_components(graph, directed=False)
    by_draw = np.argsort(draw, kind="stable")
    root = np.empty(count, np.int64)
    root[piece[by_draw[::-1]]] = by_draw[::-1]  # the last one written stays: the smallest draw of the piece
    distance = dijkstra(graph, directed=False, indices=root, unweighted=True, min_only=True)
    order = np.lexsort((draw, distance, piece, draw[root][piece], owner))
    rank = np.empty(n, np.int64)
    rank[order] = np.arange(n)
    return rank


def hold_out_late(user: np.ndarray, time: np.ndarray, n_users: int, share: float) -> Holdout:
    """Hold out each person's latest rows; rows of equal time stay together, in the history where the cut meets them.

    Args:
        user: (m,) numbers.
        time: (m,) seconds, all finite.
        n_users: how many people.
        share: wanted fraction of each person's rows, in (0, 1).
    """
    total = np.bincount(user, minlength=n_users)
    kept = total - np.floor(total * share + 0.5).astype(np.int64)
    order = np.lexsort((time, user))
    start = np.concatenate([[0], np.cumsum(total)])
    cut = np.full(n_users, -np.inf)
    some = kept > 0
    cut[some] = time[order[start[:-1][some] + kept[some] - 1]]
    heldout = time > cut[user]
    return Holdout(~heldout, heldout)
