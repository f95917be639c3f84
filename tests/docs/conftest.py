"""``crossfade up`` for pages whose commands are run."""

from tests.compose.conftest import crossfade, running_commands, typed_crossfade, typed_up, up

__all__ = ["crossfade", "running_commands", "typed_crossfade", "typed_up", "up"]
