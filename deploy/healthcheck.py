"""The image's HEALTHCHECK: 0 where the container is well, 1 and a sentence where it is not.

It asks `/healthz` of every `perennial watch` that runs here with a health port. A container in which none does, such
as a task of Kubeflow or a one-off command, is well: its exit code will tell. Standard library only, and quick: it runs
twice a minute.
"""

import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

# Below the HEALTHCHECK's own timeout, so that the sentence still gets out.
TIMEOUT_SECONDS = 5.0
LOOPBACK = "127.0.0.1"
ANY_ADDRESS = {"0.0.0.0": LOOPBACK, "::": "[::1]"}


def health_address(words: list[str]) -> str | None:
    """Return HOST:PORT at which a command line's daemon answers; None: it is no daemon, or answers nowhere known.

    Args:
        words: Words of a process's command line.

    Example:
        >>> health_address(["python", "/opt/venv/bin/perennial", "watch", "--health-port=8080"])
        '127.0.0.1:8080'
    """
    names = [word.rpartition("/")[2] for word in words]
    if "perennial" not in names or "watch" not in words[names.index("perennial") :]:
        return None
    port = _option(words, "--health-port")
    # 0 is any free port: only the log knows which.
    if not port or port == "0":
        return None
    host = _option(words, "--health-host") or LOOPBACK
    return f"{ANY_ADDRESS.get(host, host)}:{port}"


def _option(words: list[str], name: str) -> str:
    """Return the value of `name VALUE` or `name=VALUE`, the last one as click takes it."""
    value = ""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == name:
            value = following
        elif word.startswith(f"{name}="):
            value = word.partition("=")[2]
    return value


def command_lines(proc: Path) -> Iterator[list[str]]:
    """Yield the words of each process's command line, as far as this user may read them."""
    for path in proc.glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes().decode(errors="replace").rstrip("\0").split("\0")
        except OSError:
            # It ended since it was listed.
            continue


def problem(address: str) -> str:
    """Ask a daemon whether it is alive; return "" or what is wrong."""
    url = f"http://{address}/healthz"
    try:
        # Never through a proxy: it is this very container.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        opener.open(url, timeout=TIMEOUT_SECONDS).close()
    except urllib.error.HTTPError as error:
        return f"{url} answers {error.code}: perennial watch has stopped turning."
    except OSError as error:
        return f"{url} does not answer: {error}."
    return ""


def main() -> int:
    """Ask every daemon of this container; return the exit code."""
    addresses = {address for words in command_lines(Path("/proc")) if (address := health_address(words))}
    problems = [text for address in sorted(addresses) if (text := problem(address))]
    sys.stdout.writelines(f"{text}\n" for text in problems)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
