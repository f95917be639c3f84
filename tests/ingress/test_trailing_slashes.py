"""A path with a slash too many: pages redirect, and the API says what was meant."""

from __future__ import annotations

import pytest

from tests.ingress.conftest import Service, Start


@pytest.fixture
async def service(start: Start) -> Service:
    return await start()


@pytest.mark.parametrize("page", ["console", "docs"])
async def test_a_page_redirects_wherever_a_proxy_has_put_it(service: Service, page: str) -> None:
    """The service knows neither the scheme of the browser's request nor a prefix of the proxy's."""
    answer = await service.client.get(f"/{page}/", headers={"Host": "crossfade.localhost"})
    assert (answer.status_code, answer.headers["location"]) == (307, f"../{page}")


@pytest.mark.parametrize("path", ["/api/dead-letters", "/healthz", "/problems"])
async def test_the_api_redirects_no_request(service: Service, path: str) -> None:
    """A client would send its key again, to another scheme."""
    assert (await service.client.get(path)).status_code == 200
    answer = await service.client.get(f"{path}/")
    assert answer.status_code == 404
    assert path in answer.json()["detail"]
