"""Pip's settings, said again in uv's words.

uv reads neither pip.conf nor PIP_*; a host that reaches its packages only through those settings would
fail without this. Not in here: any setting of our own.
"""

import ast
import os
from collections.abc import Mapping

# pip's option, and the variable by which uv takes the same thing.
UV_VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "cert": "SSL_CERT_FILE",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "trusted-host": "UV_INSECURE_HOST",
    "no-index": "UV_NO_INDEX",
}
# Where pip takes a setting from, the strongest last.
PIP_SECTIONS = ("global", "install", ":env:")
UNUSED_BY_UV = ("PYTHONDONTWRITEBYTECODE", "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")


def parse_pip_config(listing: str) -> dict[str, str]:
    r"""Read what `pip config list` prints; of two sections the stronger one counts.

    Example:
        >>> parse_pip_config("global.timeout='15'\n:env:.timeout='180'")
        {'timeout': '180'}
    """
    found: dict[str, dict[str, str]] = {section: {} for section in PIP_SECTIONS}
    for line in listing.splitlines():
        name, _, value = line.partition("=")
        section, _, option = name.rpartition(".")
        if section in found and value:
            found[section][option] = str(ast.literal_eval(value))
    return {option: value for section in PIP_SECTIONS for option, value in found[section].items()}


def uv_environment(pip_config: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Make the environment uv runs in; what is set for uv already stays as it is.

    Args:
        pip_config: pip's options by name.
        environ: The environment of this process.

    Returns:
        `environ` with pip's settings added, without what would keep uv from compiling bytecode or
        point it to another environment. Folders of packages that don't exist are left out: pip
        ignores them, uv does not.
    """
    result = {name: value for name, value in environ.items() if name not in UNUSED_BY_UV}
    for option, variable in UV_VARIABLES.items():
        value = _translate(option, pip_config.get(option, ""))
        if value:
            result.setdefault(variable, value)
    return result


def _translate(option: str, value: str) -> str:
    words = value.split()
    if option == "find-links":
        return ",".join(word for word in words if "://" in word or os.path.exists(word))
    return " ".join(words)
