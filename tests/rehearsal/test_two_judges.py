"""Both checkers are judged: what is done to a sound history, each finds and gives one name."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.harness.content_name import name_of
from lab.harness.final import Letter
from lab.rehearsal.report import PROMISES
from lab.rehearsal.second_judge import SOURCE, JudgeError, Opinion, SecondJudge
from lab.specification.history_lines import HistoryError, read_story
from tests.rehearsal.random_stories import Sending, story_of
from tests.rehearsal.stories import (
    Story,
    attempt,
    copy,
    entry,
    refused,
    row,
    set_at,
    sound,
    swap,
    unanswered,
)
from tests.support.requirements import program
from transport.contract import Reason

Damage = Callable[[Story], object]

BROKEN: dict[str, tuple[Damage, set[str]]] = {
    "a row is gone": (lambda s: (s.rows.pop(1), s.pages.clear()), {"lost"}),
    "a record is gone from the primary": (
        lambda s: (s.logs["redis"].pop(1), s.logs["kafka"].pop(1), set_at(s.rows, 1, transport="")),
        {"lost"},
    ),
    "a record is gone from the other log": (lambda s: s.logs["kafka"].pop(1), {"lost"}),
    "an acknowledged receipt is gone": (lambda s: s.receipts.clear(), {"lost"}),
    "a receipt has a second row": (
        lambda s: s.receipts.append(s.receipts[0]),
        {"doubled"},
    ),
    "the second body is dropped in silence": (lambda s: s.letters.clear(), {"lost"}),
    "other bytes stand where one of two bodies was": (
        lambda s: (
            set_at(s.logs["redis"], 2, content="other"),
            s.logs["kafka"].pop(2),
            set_at(s.rows, 2, transport=""),
        ),
        {"lost"},
    ),
    "poison vanishes": (lambda s: s.planted.update(bad=Reason.UNDECODABLE), {"lost"}),
    "a message has a second row": (
        lambda s: (s.rows.append(row(4)), s.pages.clear()),
        {"doubled"},
    ),
    "a body has a second row under another key": (
        lambda s: s.rows.append(row(4, key="w:c:9", message_id="id-9", conversation="d")),
        {"doubled", "phantoms"},
    ),
    "two rows stand the other way round": (
        lambda s: (swap(s.rows, 1, 3), s.pages.clear()),
        {"reordered"},
    ),
    "the last row stands first": (
        lambda s: (s.rows.insert(0, s.rows.pop()), s.pages.clear()),
        {"reordered"},
    ),
    "records of the first log stand the other way round": (
        lambda s: swap(s.logs["redis"], 1, 2),
        {"reordered"},
    ),
    "records of the second log stand the other way round": (
        lambda s: swap(s.logs["kafka"], 0, 3),
        {"reordered"},
    ),
    "a conversation has two homes": (
        lambda s: set_at(s.logs["kafka"], 3, partition=7, mirror_partition=3),
        {"reordered"},
    ),
    "a reader saw another order": (lambda s: s.pages["c"].reverse(), {"reordered"}),
    "a reader missed a message": (lambda s: s.pages["c"].pop(), {"reordered"}),
    "a repeat is told another id": (
        lambda s: s.attempts.append(attempt(3, sent=9.0, ended=9.5, hit=True, message_id="id-x")),
        {"ids changed"},
    ),
    "a row has another id": (
        lambda s: (set_at(s.rows, 3, message_id="id-x"), s.pages.clear()),
        {"ids changed"},
    ),
    "a record has another id": (
        lambda s: set_at(s.logs["kafka"], 3, message_id="id-x"),
        {"ids changed"},
    ),
    "records of an unanswered message have two ids": (
        lambda s: (
            s.attempts.append(unanswered(9)),
            s.logs["redis"].append(entry(9)),
            s.logs["kafka"].append(copy(9, message_id="id-x")),
        ),
        {"ids changed"},
    ),
    "a row of an unanswered message has an id that is not its record's": (
        lambda s: (
            s.attempts.append(unanswered(9)),
            s.logs["redis"].append(entry(9)),
            s.rows.append(row(9, message_id="id-x")),
            s.pages.clear(),
        ),
        {"ids changed"},
    ),
    "a row that nobody sent": (
        lambda s: s.rows.append(row(9, conversation="d", transport="")),
        {"phantoms"},
    ),
    "a row of a refused body": (
        lambda s: (
            s.attempts.append(refused(9, 422, conversation="d")),
            s.attempts.append(refused(9, 422, conversation="d", content="content-9b")),
            s.rows.append(row(9, conversation="d", transport="")),
        ),
        {"phantoms"},
    ),
    "a row in another conversation": (
        lambda s: (set_at(s.rows, 4, conversation="d"), s.pages.clear()),
        {"phantoms"},
    ),
    "a reader gets other bytes": (
        lambda s: set_at(s.rows, 3, content=name_of(b"other")),
        {"lost", "phantoms"},
    ),
    "a reader gets no bytes": (
        lambda s: set_at(s.rows, 3, content="500 payload-damaged"),
        {"lost", "phantoms"},
    ),
    "a record names other bytes": (
        lambda s: (
            set_at(s.logs["kafka"], 3, content=name_of(b"other")),
            set_at(s.logs["kafka"], 3, digest=b"other bytes, all"),
        ),
        {"lost", "phantoms"},
    ),
    "a row names another's record": (lambda s: set_at(s.rows, 3, offset="2-0"), {"phantoms"}),
    "a row names no record": (lambda s: set_at(s.rows, 3, offset="99-0"), {"phantoms"}),
    "a copy of nothing": (
        lambda s: set_at(s.logs["kafka"], 3, mirror_of="redis:99-0"),
        {"phantoms"},
    ),
    "a copy with other bytes": (
        lambda s: set_at(s.logs["kafka"], 3, digest=b"other bytes, all"),
        {"phantoms"},
    ),
    "a good message among the dead letters": (
        lambda s: s.letters.append(Letter(message_id="id-1", reason=Reason.REJECTED, body=b"{}")),
        {"dead letters without cause"},
    ),
    "a conflict of one body": (
        lambda s: s.letters.append(
            Letter(message_id="id-1", reason=Reason.IDEMPOTENCY_CONFLICT, body=b"{}")
        ),
        {"dead letters without cause"},
    ),
    "a good message is refused": (lambda s: s.attempts.append(refused(9, 400)), {"wrong answers"}),
    "one body is called two": (lambda s: s.attempts.append(refused(9, 422)), {"wrong answers"}),
    "a 503 does not say when to come back": (
        lambda s: s.attempts.append(unanswered(9, 503)),
        {"wrong answers"},
    ),
    "a repeat is told another time": (
        lambda s: set_at(s.attempts, 7, accepted_at="2026-11-24T20:18:19.000007Z"),
        {"wrong answers"},
    ),
    "a first message is called a repeat": (
        lambda s: set_at(s.attempts, 3, hit=True),
        {"wrong answers"},
    ),
}


@pytest.fixture(scope="session")
def second(tmp_path_factory: pytest.TempPathFactory) -> SecondJudge:
    program("go", package="golang-go")
    return SecondJudge(tmp_path_factory.mktemp("judge"))


def broken(opinion: Opinion) -> set[str]:
    assert opinion.sound == (not any(opinion.verdict.values()))
    return {name for name, count in opinion.verdict.items() if count}


@pytest.mark.parametrize(("damage", "named"), BROKEN.values(), ids=BROKEN)
def test_the_first_finds_what_was_done(damage: Damage, named: set[str]) -> None:
    story = sound()
    damage(story)
    assert story.first_opinion() == named


def test_the_second_finds_the_same(second: SecondJudge, tmp_path: Path) -> None:
    files = []
    for n, (damage, _) in enumerate(BROKEN.values()):
        story = sound()
        damage(story)
        files.append(story.write(tmp_path / f"{n}.jsonl"))
    opinions = second.judge(*files)
    found = dict(zip(BROKEN, map(broken, opinions), strict=True))
    assert found == {name: classes for name, (_, classes) in BROKEN.items()}


def test_every_promise_is_broken_by_some_damage() -> None:
    assert set().union(*(classes for _, classes in BROKEN.values())) == set(PROMISES)


# What else may happen to a story. Where it did no harm, neither checker may say that it did.
_CHANCES: tuple[Damage, ...] = (
    lambda _: None,
    lambda s: s.rows and s.rows.pop(len(s.rows) // 2),
    lambda s: s.rows and s.rows.append(s.rows[0]),
    lambda s: s.rows.reverse(),
    lambda s: len(s.rows) > 1 and swap(s.rows, 0, -1),
    lambda s: s.logs["redis"].reverse(),
    lambda s: s.logs["kafka"] and s.logs["kafka"].pop(),
    lambda s: s.logs["kafka"].reverse(),
    lambda s: s.logs["redis"] and s.logs["redis"].pop(0),
    lambda s: s.letters.clear(),
    lambda s: s.attempts.pop(),
    lambda s: set_at(s.attempts, 0, message_id="id-x"),
    lambda s: set_at(s.attempts, -1, hit=True),
)


def test_random_histories_get_one_verdict(second: SecondJudge, tmp_path: Path) -> None:
    """Sound ones pass both; and both say the same of whatever chance does to them."""
    expected: dict[Path, set[str]] = {}

    # The same histories in each run, so that each kind of harm is among them in each.
    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(st.lists(Sending.any(), min_size=1, max_size=12), st.sampled_from(_CHANCES))
    def both(sendings: list[Sending], chance: Damage) -> None:
        story = story_of(sendings)
        assert story.first_opinion() == set()
        for what in (_CHANCES[0], chance):
            what(story)
            path = story.write(tmp_path / f"{len(expected)}.jsonl")
            expected[path] = story.first_opinion()

    both()
    said = dict(zip(expected, map(broken, second.judge(*expected)), strict=True))
    assert said == expected
    kinds = set().union(*expected.values())
    assert {"lost", "doubled", "reordered", "ids changed"} <= kinds, "chance did no harm"


def test_the_second_reads_lines_as_its_standard_library_does() -> None:
    program("go", package="golang-go")
    ended = subprocess.run(
        ["go", "test", "-buildvcs=false", "."],
        cwd=SOURCE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_half_a_history_is_not_judged(second: SecondJudge, tmp_path: Path) -> None:
    path = sound().write(tmp_path / "history.jsonl")
    lines = path.read_text().splitlines(keepends=True)
    for kept, why in (
        (lines[:-1], "cut off"),
        ([*lines[:3], *lines[4:]], "lines were written"),
        ([*lines[:-1], "{not json\n"], f"line {len(lines)}"),
        ([lines[0].replace('"version":2', '"version":3'), *lines[1:]], "version is 3"),
    ):
        path.write_text("".join(kept))
        with pytest.raises(JudgeError, match=why):
            second.judge(path)
        with pytest.raises(HistoryError):
            read_story(path, 2)
