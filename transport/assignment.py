"""The assignment of partitions to members: fair shares, with as few moves as possible."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["fair_shares"]


def fair_shares(members: Sequence[str], owners: Sequence[str | None]) -> list[str]:
    """Return the member that should own each partition.

    Every member gets ``n // m`` partitions or one more. Owners keep their partitions up to their
    share, and the larger shares go to members that have more already. Each member computes this for
    itself, and gets the same result from the same inputs. If their inputs differ for a moment, a
    conditional update in PostgreSQL decides.

    Args:
        members: The live members, at least one.
        owners: The current owner of each partition, or ``None``.
    """
    held: dict[str, list[int]] = {member: [] for member in members}
    for partition, owner in enumerate(owners):
        if owner in held:
            held[owner].append(partition)
    least, larger_shares = divmod(len(owners), len(held))
    by_holdings = sorted(held, key=lambda member: (-len(held[member]), member))
    shares = {member: least + (rank < larger_shares) for rank, member in enumerate(by_holdings)}
    wanted: list[str | None] = [None] * len(owners)
    for member, partitions in held.items():
        for partition in partitions[: shares[member]]:
            wanted[partition] = member
            shares[member] -= 1
    takers = iter([member for member in by_holdings for _ in range(shares[member])])
    return [member if member is not None else next(takers) for member in wanted]
