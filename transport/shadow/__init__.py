"""The shadow: a second log that gets a copy of every message, for a migration to that log.

``ShadowTransport`` is the decorator of the primary; its module explains how order is kept.
``Mirror`` sends the copies to the shadow.
"""

from transport.shadow.mirror import Mirror
from transport.shadow.transport import ShadowTransport

__all__ = ["Mirror", "ShadowTransport"]
