"""A log in one SQLite file: a complete transport that processes of one machine share.

It is the worked example of ``docs/write_a_transport.md``, in three files. ``database`` runs
transactions and turns SQLite's errors into the contract's. ``records`` has the statements about
records. ``transport`` has the calls of the contract. Nothing of Crossfade is imported but
``crossfade.transport``.

``SQLITE_LOG`` names the file; ``sqlite@32`` is in a file of its own beside it. No record is ever
removed, and no message id remembered: PostgreSQL finds repeats, as it does with Kafka.
"""

from tests.sqlite_log.transport import SqliteTransport

__all__ = ["SqliteTransport"]
