import re

from core import errors
from core.errors import PipelineError


def all_errors() -> list[type[PipelineError]]:
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PipelineError)]


def test_every_family_has_its_own_exit_code_and_headline():
    kinds = all_errors()
    assert len({kind.exit_code for kind in kinds}) == len({kind.headline for kind in kinds}) == len(kinds) >= 10


def test_tree_in_the_module_docstring_is_true():
    drawn = dict(re.findall(r"(\w+)\s+exit (\d+)", errors.__doc__ or ""))
    assert drawn == {kind.__name__: str(kind.exit_code) for kind in all_errors()}
