"""The HTTP connections of the exporter: two things that ``requests`` does are wrong for it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import requests

__all__ = ["ExportSession"]

_REDIRECTS = range(300, 400)


class ExportSession(requests.Session):
    """A session whose authorities are those it is given, and which takes a redirect for a failure.

    ``requests`` prefers ``REQUESTS_CA_BUNDLE`` to a session's own file. The exporter follows no
    redirect and takes one for a success.
    """

    def request(self, *arguments: Any, **options: Any) -> requests.Response:
        """Send a request; raises ``TooManyRedirects`` if the answer is a redirect."""
        response = super().request(*arguments, **options)
        if response.status_code in _REDIRECTS:
            to = urlsplit(response.headers.get("Location", ""))
            raise requests.TooManyRedirects(
                f"the endpoint answers {response.status_code}, a redirect to "
                f"{to.scheme}://{to.netloc}; name the collector's own address"
            )
        return response

    def merge_environment_settings(
        self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any
    ) -> Any:
        """Return the options of a request, with proxies from the environment."""
        given = self.verify if verify is None else verify
        return super().merge_environment_settings(url, proxies, stream, given, cert)
