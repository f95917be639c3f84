"""``GET /api/jobs``: the long jobs of every kind and every process."""

from __future__ import annotations

import pytest

from persistence.tables.states import JobKind, JobState
from tests.ingress.conftest import Service

URL = "/api/jobs"


@pytest.fixture
async def jobs(service: Service) -> list[str]:
    """Ids of one job of each kind, the latest first, of a process that is gone."""
    begin = """
        INSERT INTO jobs (id, kind, state, request, total, done, counts, started_by, started_at)
        VALUES (gen_random_uuid(), $1, $2, $3, 7, 3, '{"skipped": 1}', 'ann',
            now() - make_interval(mins => $4)) RETURNING id::text
    """
    return [
        await service.pool.fetchval(begin, kind, state, request, minutes)
        for minutes, (kind, state, request) in enumerate(
            [
                (JobKind.REPAIR, JobState.FAILED, "{}"),
                (JobKind.BACKFILL, JobState.INTERRUPTED, '{"to": "kafka"}'),
                (JobKind.REDRIVE, "of a later version", "{}"),
            ]
        )
    ]


async def test_jobs_of_every_kind_are_listed_the_latest_first(
    service: Service, jobs: list[str]
) -> None:
    items = (await service.client.get(URL)).json()["items"]
    assert [item["id"] for item in items] == jobs
    assert [item["kind"] for item in items] == ["repair", "backfill", "redrive"]
    assert [item["resumable"] for item in items] == [True, True, False]
    backfill = items[1]
    assert (backfill["state"], backfill["request"]) == ("interrupted", {"to": "kafka"})
    assert (backfill["total"], backfill["done"], backfill["counts"]) == (7, 3, {"skipped": 1})
    assert backfill["startedBy"] == "ann"


async def test_a_list_is_of_one_kind_and_as_long_as_asked(
    service: Service, jobs: list[str]
) -> None:
    for kind, identifier in zip(("repair", "backfill", "redrive"), jobs, strict=True):
        (only,) = (await service.client.get(URL, params={"kind": kind})).json()["items"]
        assert only["id"] == identifier
    (latest,) = (await service.client.get(URL, params={"limit": 1})).json()["items"]
    assert latest["id"] == jobs[0]
    for params in ({"kind": "odd"}, {"limit": 0}, {"limit": 201}):
        refused = await service.client.get(URL, params=params)
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["field"] == next(iter(params))


async def test_none_are_listed_where_there_are_none(service: Service) -> None:
    assert (await service.client.get(URL)).json() == {"items": []}
