"""Each assumption and rule left out once: the model checker finds what it was there for."""

from __future__ import annotations

import pytest

from lab.proof.models import NOT_EMPTY, SABOTAGES, SpecificationModel
from lab.proof.tlc import ModelVerdict, check
from lab.specification.tlc import CheckerMissingError
from tests.support.requirements import absent


def checked(model: SpecificationModel) -> ModelVerdict:
    try:
        return check(model)
    except CheckerMissingError as error:
        absent(str(error))


@pytest.mark.parametrize("model", SABOTAGES, ids=lambda model: model.name)
def test_what_is_left_out_is_missed(model):
    verdict = checked(model)
    assert verdict.violated == model.invariants[0], "\n".join(verdict.trace)
    assert len(verdict.trace) > 1


def test_a_change_of_log_there_and_back_is_among_the_behaviours():
    assert checked(NOT_EMPTY).violated == "NeverThereAndBack"
