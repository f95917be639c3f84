"""Which builds of Python are told to be slow: by what each kind says of itself."""

from __future__ import annotations

import platform

import pytest

from compose.interpreter import is_plain, label

PLAIN = "-fprofile-use -fprofile-correction"


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        pytest.param(
            {"CONFIG_ARGS": "'--prefix=/x'", "PGO_PROF_USE_FLAG": PLAIN}, True, id="pyenv"
        ),
        pytest.param(
            {"CONFIG_ARGS": "'--enable-optimizations' '--with-lto'", "PGO_PROF_USE_FLAG": PLAIN},
            False,
            id="an image",
        ),
        pytest.param(
            {"CONFIG_ARGS": "'--prefix=/usr'", "PGO_PROF_USE_FLAG": ""}, False, id="Debian"
        ),
        pytest.param({}, False, id="one that says nothing"),
    ],
)
def test_a_build_without_optimisations_is_known(build, expected):
    assert is_plain(build) is expected


def test_the_label_names_the_version():
    assert label().startswith(platform.python_version())
