"""Read and change the chain in PostgreSQL."""

from __future__ import annotations

import msgspec

from persistence.chain.links import Chain, ChainLink
from persistence.database.pool import Connection

__all__ = ["change", "read"]

_READ = "SELECT version, links, both_whole FROM log_chain WHERE id = 1"

# A PostgreSQL that went back has an old version, and must not use a version again that another
# chain had: so a version is also a time, in microseconds.
_CHANGE = """
INSERT INTO log_chain AS chain (id, version, links, both_whole)
SELECT 1, greatest($2::bigint + 1, (extract(epoch FROM clock_timestamp()) * 1e6)::bigint),
    $3::jsonb, $4
WHERE $1::bigint = 0 OR EXISTS (SELECT FROM log_chain WHERE id = 1)
ON CONFLICT (id) DO UPDATE SET
    version = excluded.version, links = excluded.links, both_whole = excluded.both_whole
WHERE chain.version = $1
RETURNING version
"""


async def read(connection: Connection, *, locked: bool = False) -> Chain:
    """Return the chain; one without links if no process has read a log yet.

    ``locked``: keep others from changing it until the transaction ends.
    """
    row = await connection.fetchrow(f"{_READ} FOR UPDATE" if locked else _READ)
    if row is None:
        return Chain()
    links = msgspec.json.decode(row["links"], type=tuple[ChainLink, ...])
    return Chain(row["version"], links, row["both_whole"])


async def change(connection: Connection, chain: Chain, *, seen: int) -> Chain | None:
    """Record a chain that was made of the one with the version ``seen``, or of a later one.

    Returns:
        The chain with its new version; ``None`` if PostgreSQL has another version by now.
    """
    version = await connection.fetchval(
        _CHANGE,
        seen,
        max(seen, chain.version),
        msgspec.json.encode(chain.links).decode(),
        chain.both_whole,
    )
    return None if version is None else msgspec.structs.replace(chain, version=version)
