"""What Kafka's JVM has loaded once is kept, by one process at a time, and not tried in vain."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose.local.class_archive import making, use
from compose.local.kafka_jars import Java


@pytest.fixture
def installed(tmp_path: Path) -> tuple[Java, Path]:
    program, jars = tmp_path / "java", tmp_path / "kafka" / "jars"
    program.touch()
    jars.mkdir(parents=True)
    return Java(program, 17), jars


def _written(options: list[str]) -> Path:
    (option,) = options
    return Path(option.partition("=")[2])


def test_one_process_makes_it_and_all_use_it(installed: tuple[Java, Path]) -> None:
    assert use(*installed) == []
    with making(*installed) as options:
        assert options is not None
        with making(*installed) as beside:
            assert beside is None
        _written(options).write_bytes(b"classes")
        assert use(*installed) == [], "it is not whole yet"
    (option,) = use(*installed)
    assert Path(option.removeprefix("-XX:SharedArchiveFile=")).read_bytes() == b"classes"
    with making(*installed) as again:
        assert again is None


def test_a_java_that_writes_none_is_not_asked_again(installed: tuple[Java, Path]) -> None:
    with making(*installed) as options:
        assert options is not None
    assert use(*installed) == []
    with making(*installed) as again:
        assert again is None


def test_where_the_broker_did_not_start_it_is_tried_again(installed: tuple[Java, Path]) -> None:
    with pytest.raises(RuntimeError), making(*installed):
        raise RuntimeError
    with making(*installed) as again:
        assert again is not None


def test_other_jars_have_another_one(installed: tuple[Java, Path], tmp_path: Path) -> None:
    java, jars = installed
    with making(java, jars) as options:
        assert options is not None
        _written(options).write_bytes(b"classes")
    newer = tmp_path / "kafka-2" / "jars"
    newer.mkdir(parents=True)
    assert use(java, newer) == []
