"""Carry out a Dockerfile's steps on a Debian root, as far as that goes without a container engine.

A stage is an overlay over the one it starts from, kept until its steps or the files they copy change: Docker's layer
cache, coarser. Needs root and a mount namespace of its own, which `tools/image_check.sh` makes. Not in here: reading
the Dockerfile, checking the result.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tools.dockerfile import DockerfileError, Instruction, Stage, pairs_of, words_of

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Settings(NamedTuple):
    """What an image says about how it is run."""

    environ: Mapping[str, str] = {"PATH": DEFAULT_PATH}
    user: str = "0:0"
    workdir: str = "/"
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    healthcheck: tuple[str, ...] = ()
    # Of the stage's ARGs: only its own RUNs see them.
    arguments: Mapping[str, str] = {}


class Image(NamedTuple):
    """What a stage made.

    Attributes:
        folders: Its layers, the topmost first.
        settings: How it is run.
        key: Digest of all that it was made from.
    """

    folders: tuple[Path, ...]
    settings: Settings
    key: str


class Site(NamedTuple):
    """Where images are built.

    Attributes:
        project: The build context.
        files: Files of it that are sent.
        work: Folder for stages and caches.
        caches: Folders that stand for cache mounts, by target; others are below `work`.
        network_files: What tells a root about addresses and certificates, copied into it for each RUN.
        environ: Variables that reach a RUN without being the image's.
        arguments: Values for ARGs, as of `--build-arg`.
    """

    project: Path
    files: tuple[str, ...]
    work: Path
    caches: Mapping[str, Path]
    network_files: tuple[Path, ...]
    environ: Mapping[str, str]
    arguments: Mapping[str, str]


def build_image(site: Site, stages: Sequence[Stage], base: Image) -> Image:
    """Build all stages; return the last.

    Args:
        site: Where.
        stages: What, the first from `base`.
        base: Stands for every image that is no stage.
    """
    images: dict[str, Image] = {}
    image = base
    for stage in stages:
        image = images[stage.name] = _build_stage(site, stage, images.get(stage.base, base), images)
    for folder in (site.work / "stages").iterdir():
        if folder.name not in images:
            shutil.rmtree(folder)
    return image


def megabytes(folder: Path) -> int:
    """Size on disk, without what is mounted below."""
    done = subprocess.run(["du", "-smx", str(folder)], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0])


@contextlib.contextmanager
def mounted(image: Image, at: Path, upper: Path | None = None) -> Iterator[Path]:
    """Show an image's layers as one root, with the kernel's folders; read-only without `upper`."""
    layers = f"lowerdir={':'.join(map(str, image.folders))}"
    at.mkdir(parents=True, exist_ok=True)
    if upper is not None:
        scratch = upper.with_name("work")
        scratch.mkdir(parents=True, exist_ok=True)
        layers += f",upperdir={upper},workdir={scratch}"
    mount("-t", "overlay", "-o", layers, "overlay", str(at))
    try:
        mount("-t", "proc", "proc", str(at / "proc"))
        mount("--rbind", "/dev", str(at / "dev"))
        yield at
    finally:
        subprocess.run(["umount", "--recursive", "--lazy", str(at)], check=True)


def mount(*words: str) -> None:
    """Mount something, in this namespace only."""
    subprocess.run(["mount", *words], check=True)


def command_inside(root: Path, settings: Settings, words: Sequence[str]) -> list[str]:
    """Return the command that runs words in a root as the image's user, in its folder, with its variables only."""
    variables = [f"{name}={value}" for name, value in settings.environ.items()]
    inside = ["env", "--ignore-environment", f"--chdir={settings.workdir}", *variables, *words]
    return ["chroot", f"--userspec={settings.user}", "--groups=", str(root), *inside]


def _build_stage(site: Site, stage: Stage, base: Image, images: Mapping[str, Image]) -> Image:
    folder = site.work / "stages" / stage.name
    upper, key_file = folder / "layer", folder / "key"
    settings = base.settings._replace(arguments={})
    image = Image((upper, *base.folders), settings, _key(site, stage, base, images))
    if key_file.is_file() and key_file.read_text() == image.key:
        print(f"      {stage.name}: unchanged, as it was built before", flush=True)
        return image._replace(settings=_settings(site, stage, settings))
    shutil.rmtree(folder, ignore_errors=True)
    upper.mkdir(parents=True)
    for instruction in stage.instructions:
        print(f"      {stage.name}: {instruction.keyword} {instruction.text:.90}", flush=True)
        settings = _applied(site, settings, instruction)
        source = dict(instruction.flags).get("from")
        if source is not None:
            _copy_from(images[source], upper, instruction)
        elif instruction.keyword in ("RUN", "COPY", "WORKDIR"):
            with mounted(base, folder / "root", upper) as root:
                _carry_out(site, root, settings, instruction)
    key_file.write_text(image.key)
    return image._replace(settings=settings)


def _key(site: Site, stage: Stage, base: Image, images: Mapping[str, Image]) -> str:
    digest = hashlib.sha256(base.key.encode())
    for instruction in stage.instructions:
        # The line may move without anything being another.
        digest.update(repr(instruction[:3]).encode())
        if instruction.keyword == "ARG":
            digest.update(repr(_given(site, instruction)).encode())
        if instruction.keyword == "COPY":
            source = dict(instruction.flags).get("from")
            if source is not None:
                digest.update(images[source].key.encode())
                continue
            for file in _copied(site, instruction):
                digest.update(file.encode() + b"\0" + hashlib.sha256((site.project / file).read_bytes()).digest())
    return digest.hexdigest()


def _settings(site: Site, stage: Stage, settings: Settings) -> Settings:
    for instruction in stage.instructions:
        settings = _applied(site, settings, instruction)
    return settings


def _given(site: Site, instruction: Instruction) -> dict[str, str]:
    """Return an ARG's values: what was given for it, or its own."""
    return {name: site.arguments.get(name, value) for name, value in pairs_of(instruction).items()}


def _applied(site: Site, settings: Settings, instruction: Instruction) -> Settings:
    """Return the settings as they are after an instruction."""
    keyword, text = instruction.keyword, instruction.text
    if keyword == "ARG":
        return settings._replace(arguments={**settings.arguments, **_given(site, instruction)})
    if keyword == "ENV":
        return settings._replace(environ={**settings.environ, **pairs_of(instruction)})
    if keyword == "USER":
        return settings._replace(user=text)
    if keyword == "WORKDIR":
        return settings._replace(workdir=os.path.join(settings.workdir, text))
    if keyword == "ENTRYPOINT":
        return settings._replace(entrypoint=tuple(words_of(instruction)))
    if keyword == "CMD":
        return settings._replace(command=tuple(words_of(instruction)))
    if keyword == "HEALTHCHECK":
        return settings._replace(healthcheck=tuple(words_of(instruction)))
    return settings


def _carry_out(site: Site, root: Path, settings: Settings, instruction: Instruction) -> None:
    if instruction.keyword == "RUN":
        _run(site, root, settings, instruction)
    elif instruction.keyword == "COPY":
        _copy(site, root, settings, instruction)
    else:
        _inside(root, settings.workdir).mkdir(parents=True, exist_ok=True)


def _run(site: Site, root: Path, settings: Settings, instruction: Instruction) -> None:
    for file in site.network_files:
        target = _inside(root, str(file))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        shutil.copyfile(file, target)
    targets = []
    for name, value in instruction.flags:
        options = dict(option.partition("=")[::2] for option in value.split(","))
        if name != "mount" or options.get("type") != "cache":
            raise DockerfileError(
                f"Line {instruction.line}: Expected --mount=type=cache of RUN; received --{name}={value}. "
                "Do without it, or teach it to tools/image_steps.py."
            )
        cache = site.caches.get(options["target"], site.work / "caches" / options["target"].strip("/"))
        targets.append(_inside(root, options["target"]))
        for folder in (cache, targets[-1]):
            folder.mkdir(parents=True, exist_ok=True)
        mount("--bind", str(cache), str(targets[-1]))
    settings = settings._replace(environ={"HOME": "/root", **site.environ, **settings.arguments, **settings.environ})
    try:
        done = subprocess.run(command_inside(root, settings, ["/bin/sh", "-c", instruction.text]), capture_output=True)
    finally:
        for target in targets:
            subprocess.run(["umount", str(target)], check=True)
    if done.returncode:
        output = (done.stdout + done.stderr).decode(errors="replace")
        raise DockerfileError(f"Line {instruction.line}: RUN ended with exit code {done.returncode}:\n{output[-4000:]}")


def _copy_from(image: Image, upper: Path, instruction: Instruction) -> None:
    """Copy a folder that another stage made by hard links: gigabytes in a second, none of them twice.

    While the layer is mounted nowhere. No later step may write into these files, which the other stage has too.
    """
    source, *targets = instruction.text.split()
    if len(targets) != 1 or not targets[0].startswith("/") or len(instruction.flags) != 1:
        raise DockerfileError(
            f"Line {instruction.line}: Expected COPY --from=STAGE SOURCE /TARGET; received {instruction.text!r} with "
            f"{dict(instruction.flags)}. Write one COPY for each source."
        )
    target = _inside(upper, targets[0])
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "--archive", "--link", str(_inside(image.folders[0], source)), str(target)], check=True)


def _copy(site: Site, root: Path, settings: Settings, instruction: Instruction) -> None:
    *sources, target = instruction.text.split()
    if instruction.flags:
        raise DockerfileError(
            f"Line {instruction.line}: Expected COPY with --from or no flag; received {dict(instruction.flags)}. "
            "Do without it, or teach it to tools/image_steps.py."
        )
    folder = _inside(root, os.path.join(settings.workdir, target))
    for file in _copied(site, instruction):
        # A folder's content is copied, not the folder; a file keeps its name alone.
        place = folder / (os.path.basename(file) if file in sources else file)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(site.project / file, place)


def _copied(site: Site, instruction: Instruction) -> list[str]:
    """Return the files of the context that a COPY takes: those it names, or all for `.`."""
    *sources, _ = instruction.text.split()
    if sources == ["."]:
        return list(site.files)
    missing = sorted(set(sources) - set(site.files))
    if missing:
        raise DockerfileError(
            f"Line {instruction.line}: {missing} are no files of the build context. Expected files that exist and that "
            ".dockerignore lets through, or `.` for all. Correct one of the two."
        )
    return sources


def _inside(root: Path, path: str) -> Path:
    return root / path.lstrip("/")
