"""The routes that list the logs, and their records page by page."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field, model_validator

from ingress.console.records import BrowsedPlace, Records
from ingress.console.routes.state import Console
from ingress.console.views import LogNames, LogRecords, NamedLog
from ingress.routes.dead_letter_models import Moment
from ingress.routes.descriptions import problems
from ingress.routes.models import Model
from ingress.schema.problems import INVALID, LOG_UNAVAILABLE, NOT_FOUND, FieldError, Problem
from ingress.schema.validation_errors import field_problem
from ingress.web.access import ReadKey
from transport.contract import Topic

__all__ = ["router"]

_MOST = 200
_Offset = Annotated[str | None, Field(min_length=1, max_length=64)]

router = APIRouter(prefix="/api/console/logs", tags=["console"])


class RecordsQuery(Model):
    """The place of a page of records. Without any of the five, it is the log's last page."""

    topic: Literal["messages", "dead_letters"] = "messages"
    after: _Offset = None
    """The records after this offset."""
    before: _Offset = None
    """The records before this offset."""
    at: _Offset = None
    """The record at this offset, and those after it."""
    time: Moment = None
    """The first record of this time or later, and those after it."""
    beginning: Literal["true"] | None = None
    """The first records that the log still has."""
    limit: Annotated[int, Field(ge=1, le=_MOST, strict=False)] = 50

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        given = [self.after, self.before, self.at, self.time, self.beginning]
        if sum(place is not None for place in given) > 1:
            raise ValueError("after, before, at, time and beginning: send one of them, or none")
        return self

    def place(self) -> BrowsedPlace:
        """Return the place that the query names."""
        if self.after is not None:
            return BrowsedPlace("after", self.after)
        if self.before is not None:
            return BrowsedPlace("before", self.before)
        if self.at is not None:
            return BrowsedPlace("at", self.at)
        if self.time is not None:
            return BrowsedPlace("time", time=self.time.timestamp())
        return BrowsedPlace("time") if self.beginning else BrowsedPlace("end")


@router.get(
    "",
    summary="List the logs whose records can be read",
    description="Each log has its roles and its number of partitions.",
    operation_id="listLogs",
)
async def list_logs(console: Console, _key: ReadKey) -> LogNames:
    return LogNames(
        items=[
            NamedLog(
                name=log.transport.name, roles=list(log.roles), partitions=log.transport.partitions
            )
            for log in console.logs
        ]
    )


@router.get(
    "/{log}/partitions/{partition}/records",
    summary="Read records as they stand in a partition",
    description="In log order. A page is limited in bytes, too, and a body is cut after 16 KiB. "
    "A key with a prefix gets only records of messages that it may read. Send `first` as "
    "`before` for the page before, and `last` as `after` for the page after. A page beyond either "
    "end of the log is empty. If the log fails while a page is sent, it ends early, and `last` is "
    "that of the last record in it.",
    operation_id="listRecords",
    response_model=LogRecords,
    responses=problems(INVALID, NOT_FOUND, LOG_UNAVAILABLE),
)
async def list_records(
    log: Annotated[str, Path(max_length=64)],
    partition: Annotated[int, Path(ge=0, le=2**31 - 1)],
    query: Annotated[RecordsQuery, Query()],
    console: Console,
    key: ReadKey,
) -> Response:
    logs = console.transports
    transport = logs.get(log)
    if transport is None:
        raise Problem(NOT_FOUND, f"There is no log {log!r}; there are {', '.join(logs)}.")
    topic = Topic(query.topic)
    if key is not None and topic is Topic.DEAD_LETTERS:
        key.refuse_limited()
    partitions = transport.partitions if topic is Topic.MESSAGES else 1
    if partition >= partitions:
        raise Problem(
            NOT_FOUND, f"{log} has the partitions 0 to {partitions - 1} of {query.topic}."
        )
    place = query.place()
    try:
        records = Records(transport, console.pool, timeout_seconds=console.timeout_seconds)
        return await records.page(topic, partition, place, limit=query.limit, key=key)
    except ValueError as error:
        raise field_problem(
            [FieldError(place.kind, str(error), f"Send an offset of {log}.")]
        ) from error
