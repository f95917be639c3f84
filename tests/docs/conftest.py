"""``crossfade up`` for pages whose commands are run."""

from tests.compose.conftest import crossfade, typed_crossfade, typed_up, up

__all__ = ["crossfade", "typed_crossfade", "typed_up", "up"]
