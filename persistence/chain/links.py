"""The chain: the order in which the logs are read, as a value.

    redis up to its marks ──► kafka up to its marks ──► redis

A link without marks is read to the end of its log. A link is open once every position has reached
the marks of the links before it. Records of a log become rows where an open link has them. In the
middle of a migration both logs are whole: each has every message before its acknowledgement. Then
the last link but one, too, is read to the end of its log.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import msgspec

__all__ = ["Chain", "ChainLink", "Marks"]

SortKey = Callable[[str], bytes]


class Marks(msgspec.Struct, frozen=True):
    """Where a link ends: an offset of each partition that had a record, in the log ``identity``."""

    identity: str
    offsets: Mapping[int, str]

    def are_reached(self, identity: str, settled: Mapping[int, str], key: SortKey) -> bool:
        """Return whether the positions ``settled``, in the log ``identity``, have reached them."""
        return identity == self.identity and all(
            (at := settled.get(partition)) and key(at) >= key(mark)
            for partition, mark in self.offsets.items()
        )


class ChainLink(msgspec.Struct, frozen=True):
    """A log and its marks. Without marks, it is read to its end, and no later link waits for it.

    ``is_open`` is true once it was seen that all links before it are passed.
    """

    log: str
    marks: Marks | None = None
    is_open: bool = False


class Chain(msgspec.Struct, frozen=True):
    """The links in their order, the last one without marks. ``version`` rises with each change.

    ``both_whole``: the logs of the last two links are whole.
    """

    version: int = 0
    links: tuple[ChainLink, ...] = ()
    both_whole: bool = False

    def whole(self) -> set[str]:
        """Return the logs that every process writes to before it acknowledges."""
        return {link.log for link in self.links[-2 if self.both_whole else -1 :]}

    def is_unbounded(self, log: str) -> bool:
        """Return whether records of a log may become rows wherever they are."""
        return any(self._is_open(at) and self._has_no_end(at) for at, _ in self._of(log))

    def bound(self, log: str, identity: str, partition: int, key: SortKey) -> str:
        """Return the last offset up to which records of a bounded log may become rows.

        It is empty if none may.
        """
        marks = [
            link.marks.offsets.get(partition, "")
            for at, link in self._of(log)
            if self._is_open(at) and link.marks is not None and link.marks.identity == identity
        ]
        return max((mark for mark in marks if mark), key=key, default="")

    def leads_to(
        self, log: str, partition: int, offset: str, key: SortKey, *, mirrors: bool
    ) -> bool:
        """Return whether a record would be found again before any newer one if its row were lost.

        ``mirrors``: whether this process writes two logs before it acknowledges. Then a record of
        one of them may be missing in the other, unless it is below a mark.
        """
        for at, link in self._of(log):
            if link.marks is None:
                if at < len(self.links) - 1 or not (self.both_whole or mirrors):
                    return True
            elif (mark := link.marks.offsets.get(partition)) and key(offset) <= key(mark):
                return True
        return False

    def marked(self, ends: Mapping[str, Marks], primary: str, shadow: str) -> Chain:
        """Return the chain once all processes write two logs before they acknowledge.

        Args:
            ends: Where each log without marks, and the primary, ended when that was so.
            primary: The one of the two logs that is written first.
            shadow: The other one.
        """
        base = self.links[-1].log if self.links else primary
        last = () if self.links and base in (primary, shadow) else (ChainLink(primary),)
        links = [
            link if link.marks else msgspec.structs.replace(link, marks=ends[link.log])
            for link in (*self.links, *last)
        ]
        other = primary if links[-1].log == shadow else shadow
        return msgspec.structs.replace(self, links=(*links, ChainLink(other)), both_whole=True)

    def closed(self, log: str) -> Chain:
        """Return the chain for when some process does not write one of the whole logs any more."""
        links = self.links
        if not self.both_whole or log not in self.whole():
            return self
        if links[-1].log == log:
            links = (*links[:-2], msgspec.structs.replace(links[-2], marks=None))
        return msgspec.structs.replace(self, links=links, both_whole=False)

    def changed_by_hand(self, primary: str, written: Collection[str]) -> Chain:
        """Return the chain for when a process acknowledges what is in ``written`` alone.

        After each step of a migration this is the same chain. After a change by hand, the log that
        is left is read to its end, together with ``primary``: the order can't be kept.
        """
        chain = self
        for log in self.whole().difference(written):
            chain = chain.closed(log)
        endless = {link.log for link in chain.links if link.marks is None}
        if primary in endless or chain.links[-1].log in written:
            return chain
        return msgspec.structs.replace(
            chain, links=(*chain.links, ChainLink(primary)), both_whole=False
        )

    def ended(self, log: str, marks: Marks) -> Chain:
        """Return the chain once a log that was left by hand is drained and unused."""
        links = list(self.links)
        for at, link in self._of(log):
            if link.marks is None and at + 1 < len(links):
                links[at] = msgspec.structs.replace(link, marks=marks)
                following = msgspec.structs.replace(links[at + 1], is_open=self._is_open(at + 1))
                links[at + 1] = following
        return msgspec.structs.replace(self, links=tuple(links))

    def without(self, log: str, survivor: str) -> Chain:
        """Return the chain once a log is gone for good; ``survivor`` is the one that is left."""
        if log not in {link.log for link in self.links}:
            return self
        links = [link for link in self.links if link.log != log] or [ChainLink(survivor)]
        links[-1] = msgspec.structs.replace(links[-1], marks=None)
        both = self.both_whole and log not in self.whole()
        return msgspec.structs.replace(self, links=tuple(links), both_whole=both)

    def opened(self, log: str, identity: str, settled: Mapping[int, str], key: SortKey) -> Chain:
        """Return the chain with the links open that follow passed links of a log.

        ``settled`` has the log's positions.
        """
        chain = self
        for at in self._kept_closed_by(log):
            marks = chain.links[at].marks
            if marks is not None and marks.are_reached(identity, settled, key):
                links = list(chain.links)
                links[at + 1] = msgspec.structs.replace(links[at + 1], is_open=True)
                chain = msgspec.structs.replace(chain, links=tuple(links))
        return chain

    def waits_for(self, log: str) -> set[int]:
        """Return the partitions of a log for whose positions a later link waits."""
        marks = [self.links[at].marks for at in self._kept_closed_by(log)]
        return {partition for one in marks if one for partition in one.offsets}

    def open_as(self, other: Chain) -> Chain:
        """Return this chain with those links open that are open in ``other``, an older one."""
        links, is_same = list[ChainLink](), True
        for at, link in enumerate(self.links):
            known = other.links[at] if at < len(other.links) else ChainLink("")
            is_same = is_same and known.log == link.log
            is_open = is_same and known.is_open
            links.append(msgspec.structs.replace(link, is_open=is_open))
            is_same = is_same and known.marks == link.marks
        return msgspec.structs.replace(self, links=tuple(links))

    def _kept_closed_by(self, log: str) -> list[int]:
        """Return where the links of a log are that are open, while the next one is not."""
        following = range(len(self.links) - 1)
        return [
            at
            for at in following
            if self.links[at].log == log and self._is_open(at) and not self._is_open(at + 1)
        ]

    def _of(self, log: str) -> list[tuple[int, ChainLink]]:
        return [(at, link) for at, link in enumerate(self.links) if link.log == log]

    def _is_open(self, at: int) -> bool:
        if self.links[at].is_open or at == 0:
            return True
        marks = self.links[at - 1].marks
        return self._is_open(at - 1) and not (marks and marks.offsets)

    def _has_no_end(self, at: int) -> bool:
        return self.links[at].marks is None or (self.both_whole and at == len(self.links) - 2)
