"""``crossfade up`` for pages whose commands are run."""

from tests.compose.conftest import crossfade, up

__all__ = ["crossfade", "up"]
