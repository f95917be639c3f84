"""The log in memory, for tests and demonstrations. It ends with the process.

Several transports may share one ``MemoryLog``, as several processes would share a broker.
"""

from transport.memory.log import MemoryLog
from transport.memory.transport import MemoryTransport

__all__ = ["MemoryLog", "MemoryTransport"]
