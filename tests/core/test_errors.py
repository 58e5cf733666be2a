import re

from core import errors
from core.errors import PipelineError


def all_errors() -> list[type[PipelineError]]:
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PipelineError)]


def test_every_family_has_its_own_exit_code_and_headline():
    families = [kind for kind in all_errors() if kind.__base__ in (Exception, PipelineError)]
    codes, headlines = {kind.exit_code for kind in families}, {kind.headline for kind in families}
    assert len(codes) == len(headlines) == len(families) >= 10


def test_a_kind_within_a_family_has_the_familys_exit_code():
    kinds = [kind for kind in all_errors() if kind.__base__ not in (Exception, PipelineError)]
    assert kinds
    for kind in kinds:
        assert kind.exit_code == kind.__base__.exit_code
        assert kind.retryable == kind.__base__.retryable


def test_exit_code_says_what_is_worth_trying_again():
    assert {kind.exit_code for kind in all_errors() if kind.retryable} == {75}


def test_tree_in_the_module_docstring_is_true():
    drawn = dict(re.findall(r"(\w+)\s+exit (\d+)", errors.__doc__ or ""))
    assert drawn == {kind.__name__: str(kind.exit_code) for kind in all_errors()}
