"""A second log that gets a copy of every message, so that the first one can be left.

``ShadowTransport`` is the decorator, and says how order is kept;
``Mirror`` is the shadow's side of it.
"""

from transport.shadow.mirror import Mirror
from transport.shadow.transport import ShadowTransport

__all__ = ["Mirror", "ShadowTransport"]
