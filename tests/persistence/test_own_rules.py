"""Constraints, indexes and triggers that the owner of the tables adds to ``messages``."""

from __future__ import annotations

import pytest

from persistence.errors import Outage, Rejected
from tests.persistence.loglib import append, lag, letters
from tests.persistence.samples import message, placed
from tests.support.eventually import eventually

_TRIGGER = """
CREATE FUNCTION house_rules() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {} RETURN NEW; END $$;
CREATE TRIGGER house_rules BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION house_rules()
"""


async def test_a_record_that_a_trigger_refuses_is_named_without_its_content(
    writer, fence, database_pool
):
    await database_pool.execute(_TRIGGER.format("RAISE EXCEPTION 'bad: %', NEW.content;"))
    with pytest.raises(Rejected) as refused:
        await writer.write([placed(message(content="secret"))], fence)
    assert str(refused.value) == ("PostgreSQL refuses it: Raise (SQLSTATE P0001) at house_rules()")


@pytest.mark.parametrize(
    "statement", ["INSERT INTO nowhere VALUES (NEW.id);", "PERFORM nothing(NEW.id);"]
)
async def test_a_trigger_that_is_broken_is_an_outage_and_no_old_schema(
    statement, writer, fence, database_pool
):
    await database_pool.execute(_TRIGGER.format(statement))
    with pytest.raises(Outage) as broken:
        await writer.write([placed(message())], fence)
    assert type(broken.value) is Outage, "and not SchemaOutdated, whose remedy is another"
    assert str(broken.value).startswith("a trigger of your own fails, in house_rules() (PostgreSQL")
    await database_pool.execute("DROP TRIGGER house_rules ON messages")
    await writer.write([placed(message())], fence)


@pytest.mark.parametrize(
    "rule",
    [
        "CREATE UNIQUE INDEX one_a_correlation ON messages (correlation_id)",
        _TRIGGER.format("IF NEW.content = 'again' THEN RETURN NULL; END IF;"),
    ],
    ids=["unique index", "trigger"],
)
async def test_a_record_that_is_left_out_in_silence_is_a_dead_letter(
    rule, transport, start, database_pool
):
    """The records beside it are stored, in their order."""
    await database_pool.execute(rule)
    one = [message(f"m{n}", correlation_id=f"corr-{n}") for n in range(5)]
    await append(
        transport, *one[:3], message("again", content="again", correlation_id="corr-1"), *one[3:]
    )
    start()

    async def is_drained() -> bool:
        return await lag(transport) == 0

    await eventually(is_drained)
    rows = await database_pool.fetch("SELECT client_message_id FROM messages ORDER BY seq")
    assert [row["client_message_id"] for row in rows] == [f"m{n}" for n in range(5)]
    (letter,) = await letters(transport)
    assert "a unique index or a trigger of your own" in letter.error
