"""Read a Dockerfile into stages and instructions, as far as `deploy/Dockerfile` goes; refuse the rest by name.

What is not understood must not be passed over: a check that leaves out steps checks another image. Not in here:
carrying the instructions out.
"""

import json
from typing import NamedTuple

KNOWN = ("ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "RUN", "USER", "WORKDIR")


class DockerfileError(Exception):
    """What the Dockerfile says and this reader does not know, with the line, as one sentence that ends in the fix."""


class Instruction(NamedTuple):
    """One instruction, continuation lines joined.

    Attributes:
        keyword: In capitals.
        flags: Name and value of each `--name=value` before the arguments, in their order.
        text: The arguments as they stand there.
        line: Where it begins, from 1.
    """

    keyword: str
    flags: tuple[tuple[str, str], ...]
    text: str
    line: int


class Stage(NamedTuple):
    """A FROM and what follows it.

    Attributes:
        name: After AS; the number of the stage where it has none.
        base: Image, or name of an earlier stage.
        instructions: What follows, up to the next FROM.
    """

    name: str
    base: str
    instructions: tuple[Instruction, ...]


def parse_dockerfile(text: str) -> list[Stage]:
    """Return the stages in their order.

    Raises:
        DockerfileError: for an instruction that is not one of `KNOWN`, or one before the first FROM.
    """
    stages: list[Stage] = []
    for instruction in map(_instruction, *_joined_lines(text)):
        if instruction.keyword == "FROM":
            base, _, alias = instruction.text.partition(" ")
            name = alias.strip().removeprefix("AS ").removeprefix("as ") or str(len(stages))
            stages.append(Stage(name, base, ()))
        elif not stages or instruction.keyword not in KNOWN:
            rule = f"one of {', '.join(KNOWN)} after a FROM"
            raise DockerfileError(
                f"Line {instruction.line}: {instruction.keyword} is not carried out here. Expected {rule}. "
                "Do without it, or teach it to tools/dockerfile.py and tools/image_steps.py."
            )
        else:
            stages[-1] = stages[-1]._replace(instructions=(*stages[-1].instructions, instruction))
    return stages


def words_of(instruction: Instruction) -> list[str]:
    """Return the words of a CMD, ENTRYPOINT or HEALTHCHECK in its JSON form.

    Raises:
        DockerfileError: for the shell form, whose signals end at the shell.
    """
    form = instruction.text.removeprefix("CMD ") if instruction.keyword == "HEALTHCHECK" else instruction.text
    try:
        words = json.loads(form)
    except ValueError:
        words = None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise DockerfileError(
            f'Line {instruction.line}: Expected {instruction.keyword} ["WORD", ...]; received {form!r}. Write JSON.'
        )
    return words


def pairs_of(instruction: Instruction) -> dict[str, str]:
    """Return the values of an ARG or ENV by name; no quotes, no references to other variables.

    Raises:
        DockerfileError: for what would need them.
    """
    if any(sign in instruction.text for sign in "\"'$\\"):
        raise DockerfileError(
            f"Line {instruction.line}: Expected plain NAME=VALUE pairs; received {instruction.text!r}. "
            "Write values out, without quotes."
        )
    return dict(pair.split("=", 1) for pair in instruction.text.split())


def _joined_lines(text: str) -> tuple[list[str], list[int]]:
    """Join lines at backslashes, leave out comments and empty lines, also those inside; tell where each begins."""
    joined, begins, is_open = [], [], False
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        content = line.strip()
        if not is_open:
            joined.append("")
            begins.append(number)
        is_open = content.endswith("\\")
        joined[-1] += " " + content.removesuffix("\\").rstrip()
    return joined, begins


def _instruction(joined: str, line: int) -> Instruction:
    keyword, _, rest = joined.strip().partition(" ")
    flags = []
    rest = rest.strip()
    while rest.startswith("--"):
        flag, _, rest = rest.partition(" ")
        name, _, value = flag.removeprefix("--").partition("=")
        flags.append((name, value))
        rest = rest.strip()
    return Instruction(keyword.upper(), tuple(flags), rest, line)
