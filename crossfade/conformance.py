"""The transport contract as tests. They need pytest and pytest-asyncio.

To test a transport of your own, write a test module such as this:

    import pytest
    from crossfade.conformance import *  # the tests


    @pytest.fixture
    def backend():
        log = ...  # an empty log of this test's own
        return Backend(create=lambda: MyTransport(log), features=MyTransport.features)
"""

from __future__ import annotations

from transport.conformance import *  # noqa: F403 - the tests are collected from here
from transport.conformance import Backend as Backend  # noqa: PLC0414 - exported
from transport.conformance import __all__ as __all__  # noqa: PLC0414 - exported
