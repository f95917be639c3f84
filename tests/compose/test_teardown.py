"""What a test started is gone when it is over, also where the test failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compose.conftest import commands
from tests.support.crossfade import Crossfade


async def test_a_command_that_took_too_long_is_killed_with_the_others(tmp_path: Path) -> None:
    async with commands(Crossfade.start, tmp_path, []) as start:
        late, other = [await start("600", command=Path("/bin/sleep")) for _ in range(2)]
        with pytest.raises(TimeoutError):
            await late.ends(timeout=0.1)
    assert [late.process.returncode, other.process.returncode] == [-9, -9]
