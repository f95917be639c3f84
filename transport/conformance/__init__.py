"""The transport contract as tests, which any transport can run with a factory and its features.

In a test module of your own (pytest and pytest-asyncio must be installed):

    import pytest
    from transport.conformance import *  # the tests

    @pytest.fixture
    def backend():
        log = ...  # an empty log of this test's own
        return Backend(create=lambda: MyTransport(log), features=MyTransport.features)

Each test gets a ``backend``. ``Backend`` has optional fields; a test that needs one that yours
lacks is skipped, with that as the reason. The tests use only public methods of the contract, and
may run in any order.
"""

import pytest

pytest.register_assert_rewrite(
    *(
        f"{__name__}.{module}"
        for module in (
            "dead_letters", "delivery", "envelopes", "faults", "groups", "identity",
            "positions", "progress", "publishing", "reader", "reading", "removal", "waiting",
        )
    )
)  # fmt: skip

from transport.conformance import (  # noqa: E402 - after the rewrite of their asserts is asked for
    dead_letters,
    delivery,
    faults,
    groups,
    identity,
    positions,
    progress,
    publishing,
    reading,
    removal,
    waiting,
)
from transport.conformance.backend import Backend  # noqa: E402

_TESTS = {
    name: test
    for module in (
        publishing,
        delivery,
        progress,
        dead_letters,
        faults,
        positions,
        reading,
        waiting,
        identity,
        groups,
        removal,
    )
    for name, test in vars(module).items()
    if name.startswith("test_")
}
globals().update(_TESTS)

__all__ = ["Backend", *_TESTS]  # noqa: PLE0604 - they are names
