"""A tree whose tasks end one after the other, and the others divide their draws: no new tree for each of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from flantune.mixture.permutation import Integers
from flantune.mixture.tree import Forest, Rated, grown, split_at


class PrunedTree:
    """The tree of a mixture, of which tasks are taken out.

    It keeps its shape. The nodes above a task that goes get the shares of what is left on their sides, which takes a
    step a level; one that has only one side left passes all its visits on.

    Args:
        mixture: With its rates.
        key: 64 bits; see `forest_of`.
        members: Number of each task by name.
    """

    def __init__(self, mixture: Rated, key: int, members: Mapping[str, int]) -> None:
        made = grown([(mixture, key)], members)
        self._tops, self._keys = made.tops, [node.key for node in made.nodes]
        self._amounts = [list(node.amounts) for node in made.nodes]
        self._above = {
            child: (number, side) for number, node in enumerate(made.nodes) for side, child in enumerate(node.sides)
        }
        self._forest = made.forest()
        self._levels = list(_levels(self._forest))

    def forest(self) -> Forest:
        """The tree as it is now."""
        now = self._forest
        return Forest(now.roots, now.left, now.right, now.left_part.copy(), now.total.copy(), now.offset.copy())

    def take(self, member: int) -> None:
        """Takes out a task, which is not the last one: the others of its mixture divide its draws by their rates.

        Where it was the last one of its mixture, those beside the mixture do.
        """
        at, lost = ~member, self._amount(~member)
        while at in self._above:
            node, side = self._above[at]
            self._amounts[node][side] -= lost
            if any(self._amounts[node]):
                self._divide(node)
                if node in self._tops:
                    return  # what is left of a mixture has the mixture's draws
            elif node in self._above:
                lost = self._amount(node)
            at = node

    def _amount(self, child: int) -> int:
        node, side = self._above[child]
        return self._amounts[node][side]

    def _divide(self, node: int) -> None:
        left, right = self._amounts[node]
        now = self._forest
        now.left_part[node], now.total[node], now.offset[node] = split_at((left, right), self._keys[node])

    def furthest(self) -> float:
        """What bounds how far a task may be from its share, in draws, in a prefix or a block; see `Forest`.

        It decides which tree is drawn from: single operations on floats, which are the same on every machine.
        """
        now, worst = self._forest, 0.0
        bounds, shares = np.zeros(len(now.left)), (now.left_part / now.total).astype(float)
        for nodes in self._levels:
            for children, share in ((now.left[nodes], shares[nodes]), (now.right[nodes], 1 - shares[nodes])):
                # A node with one side adds nothing. What has gone counts from 0: never more than when it stood.
                above = bounds[nodes]
                below = np.where(share == 1, above, np.where(share == 0, 0, 1 + share * above))
                inner = children >= 0
                bounds[children[inner]] = below[inner]
                worst = max(worst, float(below.max()))
        return worst


def _levels(tree: Forest) -> Iterator[Integers]:
    """The nodes from the root down, those of one depth together."""
    nodes = tree.roots[tree.roots >= 0]
    while nodes.size:
        yield nodes
        children = np.concatenate([tree.left[nodes], tree.right[nodes]])
        nodes = children[children >= 0]
