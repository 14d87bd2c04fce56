"""Slices that wait for the network, of several stacks, and what of them goes in together."""

from collections import deque
from collections.abc import Callable

from paravert.network.predict import Piece, Prepared

Part = tuple[object, Piece]


class Waiting:
    """Stacks in the order in which they came, apart by grid.

    limit: returns how many slices of a grid go in together, asked anew each time.
    """

    def __init__(self, limit: Callable[[tuple[int, int]], int]):
        self._limit = limit
        self._parts: dict[tuple[int, int], deque[Part]] = {}

    def add(self, owner: object, stack: Prepared) -> None:
        """Let a stack wait; owner: what comes back beside its pieces."""
        whole = Piece(stack, 0, len(stack.slices))
        self._parts.setdefault(stack.grid, deque()).append((owner, whole))

    def batch(self, *, full: bool) -> list[Part]:
        """Return the pieces of a batch and take them out; empty if there is none.

        full: nothing but a full batch. Else what has waited longest.
        """
        for grid, parts in self._parts.items():
            limit = self._limit(grid)
            if parts and (not full or sum(len(piece) for _, piece in parts) >= limit):
                return self._taken(grid, limit)
        return []

    def _taken(self, grid: tuple[int, int], limit: int) -> list[Part]:
        parts, taken = self._parts.pop(grid), []
        while parts and limit:
            owner, piece = parts.popleft()
            middle = min(piece.start + limit, piece.stop)
            taken.append((owner, Piece(piece.stack, piece.start, middle)))
            limit -= middle - piece.start
            if middle < piece.stop:
                parts.appendleft((owner, Piece(piece.stack, middle, piece.stop)))
        if parts:
            self._parts[grid] = parts  # behind the other grids: each has its turn
        return taken


def halves(parts: list[Part]) -> tuple[list[Part], list[Part]]:
    """Return the first and second half of a batch by slices, two at least."""
    left = sum(len(piece) for _, piece in parts) // 2
    first, second = [], []
    for owner, piece in parts:
        middle = min(piece.start + left, piece.stop)
        left -= middle - piece.start
        if middle > piece.start:
            first.append((owner, Piece(piece.stack, piece.start, middle)))
        if middle < piece.stop:
            second.append((owner, Piece(piece.stack, middle, piece.stop)))
    return first, second
