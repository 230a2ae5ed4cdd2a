"""How many calls each trunk, peer and agent has at once, against their limits."""

from __future__ import annotations

from collections.abc import Hashable

from gateway.guard.tables import Quota


class Lines:
    """A call holds one line in each role (where it came from, its agent, its trunk) until it ends."""

    def __init__(self) -> None:
        self._quota: Quota[str] = Quota()
        self._held: dict[Hashable, dict[str, str]] = {}

    def __len__(self) -> int:
        """Lines that are held."""
        return sum(len(held) for held in self._held.values())

    def free(self, owner: str, limit: int) -> bool:
        """Whether ``owner`` has a line left of ``limit`` (0: no limit)."""
        return not limit or self._quota[owner] < limit

    def take(self, call: Hashable, role: str, owner: str, limit: int) -> bool:
        """Give ``call`` a line of ``owner`` in place of the one that it has in this role; False when none is left."""
        held = self._held.setdefault(call, {})
        if held.get(role) == owner:
            return True
        if not self._quota.take(owner, limit):
            if not held:
                del self._held[call]
            return False
        if (old := held.get(role)) is not None:
            self._quota.release(old)
        held[role] = owner
        return True

    def release(self, call: Hashable) -> None:
        """The call is over."""
        for owner in self._held.pop(call, {}).values():
            self._quota.release(owner)
