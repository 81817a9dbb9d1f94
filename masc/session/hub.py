"""`masc push` and `masc pull`: an artifact as a repository of the Hugging Face hub, and back."""

from __future__ import annotations

import glob
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from masc.compiler.artifact import (
    Artifact,
    Layout,
    artifact_of,
    base_of,
    check_files,
    dump_manifest,
    is_artifact,
    locate,
    portable,
    read_artifact,
    read_consistently,
    read_manifest,
    writing,
)
from masc.compiler.artifact.layout import CHANNELS, CHECKPOINTS, MANIFEST, METRICS, is_checkpoint
from masc.compiler.files.writing import atomic_write, check_folder
from masc.compiler.models.locate import locate_model
from masc.dsl.diagnostics import MascError, fail, first_line
from masc.dsl.regular import open_regular
from masc.session.card import CARD, PICTURE, card
from masc.session.outputs import owner_of
from masc.session.programs import graph_of
from masc.terminal.console import say
from masc.version import __version__

if TYPE_CHECKING:
    from huggingface_hub import HfApi

OURS = ["adapters/*", f"{CHECKPOINTS}/*", CHANNELS, METRICS]
"""What an earlier push may have left in a repository, and this one takes away unless it brings it again."""


def push(
    argument: Path, repository: str, private: bool, revision: str | None, message: str | None, checkpoints: bool
) -> str:
    """Upload an artifact with a model card in one commit; returns the commit's address. Only files that masc wrote are
    sent. Errors: E0510 to E0514, E0617 for an artifact that is not whole; those of its source; E0691 to E0693."""
    root = argument if is_artifact(argument) else artifact_of(locate(argument, Path()))
    with TemporaryDirectory() as place:
        part = Path(place) / "artifact"
        artifact = read_consistently(root, lambda: _copied(root, part, checkpoints))
        _describe(artifact, part, repository)
        with _speaking(repository, revision):
            api = _api()
            api.create_repo(repository, private=private or None, exist_ok=True)
            if private and not api.repo_info(repository).private:
                hint = "make it private there, or name another; nothing was uploaded"
                raise fail("E0693", f"`{repository}` is there already, and is public", hint=hint)
            if revision is not None:
                api.create_branch(repository, branch=revision, exist_ok=True)
            done = api.upload_folder(
                repo_id=repository,
                folder_path=part,
                revision=revision,
                commit_message=message or f"{artifact.plan.name}, with masc {__version__}",
                delete_patterns=OURS,
            )
    return str(done.commit_url)


def _copied(root: Path, part: Path, checkpoints: bool) -> Artifact:
    """Copy what belongs to an artifact, but for its lock and its profile, into a new folder, and check the copy."""
    shutil.rmtree(part, ignore_errors=True)
    artifact = read_artifact(root)
    layout = artifact.layout
    names = [name for name, _ in artifact.manifest.files]
    names += [METRICS] if layout.metrics.is_file() else []
    for step in sorted(layout.checkpoints.glob("step-*")) if checkpoints else ():
        if is_checkpoint(step):
            names += [path.relative_to(root).as_posix() for path in step.rglob("*") if path.is_file()]
    for name in names:
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            with open_regular(layout.at(name)) as old, (part / name).open("wb") as new:
                shutil.copyfileobj(old, new)
        except OSError as error:
            raise fail("E0511", f"`{root}` is damaged: `{name}`: {error.strerror or error}") from None
    check_files(part, artifact.manifest, str(root), "compile or train it again, and push then")
    if (part / METRICS).exists():
        atomic_write(part / METRICS, _without_rows((part / METRICS).read_text(encoding="utf-8", errors="replace")))
    atomic_write(part / MANIFEST, dump_manifest(portable(artifact.manifest)))
    return artifact


def _without_rows(metrics: str) -> str:
    """Lines of metrics without the answers and gold answers of evaluations: rows of data are nobody else's."""
    kept = []
    for line in metrics.splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict):
            kept.append(json.dumps({name: one for name, one in said.items() if name != "eval_samples"}) + "\n")
    return "".join(kept)


def _describe(artifact: Artifact, part: Path, repository: str) -> None:
    from masc.backends.diagram import draw

    graph = graph_of(artifact.source, {})
    for model in graph.models:
        if locate_model(model.target, base_of(artifact), model.loading.revision) is None or Path(model.target).is_dir():
            say(f"note: `{model.name}` is a folder of this machine; who pulls the team needs the same model")
    draw(graph, part / PICTURE)
    atomic_write(part / CARD, card(artifact, graph, repository))


def pull(
    repository: str, revision: str | None, out: Path | None, force: bool, checkpoints: bool
) -> tuple[Artifact, str]:
    """Download an artifact into a new folder; returns it and the commit that it is of. The folder is there whole or not
    at all, and nothing in it is executed. Errors: E0612, E0518, E0641 where it cannot be written; E0510 to E0514, E0617
    for a repository that holds no whole artifact; E0691 to E0693."""
    out = out or Path(repository.rpartition("/")[2].removesuffix(".masc") + ".masc")
    _check_place(out, force)
    part = out.absolute().parent / f".{out.name[:40]}.{secrets.token_hex(4)}.tmp"
    new = part / "new"
    try:
        part.mkdir(parents=True)
        with _named(part, new, repository):
            commit = _download(repository, revision, part, new, checkpoints)
            check_files(new, read_manifest(Layout(new)), repository, "")
            found = read_artifact(new)
        _put(new, out, part / "old")
    except OSError as error:
        raise fail("E0612", f"cannot write `{out}`: {error.strerror or error}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return replace(found, layout=Layout(out)), commit


def _check_place(out: Path, force: bool) -> None:
    check_folder(out)
    if whose := owner_of(out.absolute() / MANIFEST) if not is_artifact(out) else owner_of(out.absolute()):
        raise fail("E0612", f"cannot write `{out}`: it lies in {whose}", hint="name another folder")
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        if not force:
            hint = "name a new folder, or replace that one with `--force`"
            raise fail("E0612", f"`{out}` is there already", hint=hint)
        if out.is_symlink() or not (out.is_dir() and is_artifact(out)):
            raise fail("E0518", f"`{out}` is no artifact, and is not replaced", hint="name a new or empty folder")


def _download(repository: str, revision: str | None, part: Path, new: Path, checkpoints: bool) -> str:
    """What the repository's manifest lists, its card and the metrics: nothing else comes. Returns the commit."""
    from huggingface_hub.errors import RemoteEntryNotFoundError

    with _speaking(repository, revision):
        api = _api()
        commit = api.repo_info(repository, revision=revision).sha or ""
        try:
            api.hf_hub_download(repository, MANIFEST, revision=commit, local_dir=part / "first")
        except RemoteEntryNotFoundError:
            raise fail("E0510", f"`{repository}` is not an artifact: there is no {MANIFEST} in it") from None
        listed = [glob.escape(name) for name, _ in read_manifest(Layout(part / "first")).files]
        listed += [MANIFEST, METRICS, CARD, PICTURE, *([f"{CHECKPOINTS}/step-*"] if checkpoints else [])]
        api.snapshot_download(repository, revision=commit, local_dir=new, allow_patterns=listed)
    shutil.rmtree(new / ".cache", ignore_errors=True)  # notes of huggingface_hub for a next download into this folder
    return commit


def _put(new: Path, out: Path, old: Path) -> None:
    """Rename the new folder to its place; what is there makes room, and stays if that fails."""
    there = out.is_dir()
    with writing(out) if there else nullcontext():
        if there:
            os.rename(out, old)
        try:
            os.rename(new, out)
        except OSError:
            if there:
                os.rename(old, out)
            raise


@contextmanager
def _named(part: Path, new: Path, repository: str) -> Iterator[None]:
    """What is wrong is wrong with the repository, not with the folder that it was fetched into."""
    try:
        yield
    except MascError as error:
        places = (str(new), str(part / "first"))
        if not any(place in d.message for d in error.diagnostics for place in places):
            raise
        hint = "what lies in the repository is not whole; nothing was written"
        told = []
        for found in error.diagnostics:
            message = found.message
            for place in places:
                message = message.replace(place, repository)
            told.append(replace(found, message=message, hint=hint))
        raise MascError(told) from None


def _api() -> HfApi:
    """The hub, with the token that huggingface_hub finds: in HF_TOKEN, or of `hf auth login`."""
    from huggingface_hub import HfApi

    return HfApi(library_name="masc", library_version=__version__)


@contextmanager
def _speaking(repository: str, revision: str | None) -> Iterator[None]:
    """Errors of the hub in masc's words: E0691 it cannot be reached, E0692 it has no such repository, E0693 it does not
    allow that."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalTokenNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    transport: Any = HfHubHTTPError.__bases__[0]  # of which all errors of the HTTP library are, whichever it is
    login = "a token comes from HF_TOKEN in the environment, or from `hf auth login`"
    hint = "a repository is USER/NAME; a folder is copied with `cp -r`"
    unnamed = fail("E0692", f"`{repository}` is no name of a repository", hint=hint)
    if repository.count("/") != 1:  # the hub knows names without a user, which are not for teams
        raise unnamed
    try:
        yield
    except HFValidationError as error:
        raise unnamed from error
    except RevisionNotFoundError as error:
        hint = "a revision is a branch, a tag or a commit"
        raise fail("E0692", f"`{repository}` has no revision `{revision or 'main'}`", hint=hint) from error
    except GatedRepoError as error:
        raise fail("E0693", f"`{repository}` is gated: ask for access on its page", hint=login) from error
    except RepositoryNotFoundError as error:
        message = f"the Hugging Face hub has no `{repository}` for you"
        raise fail("E0692", message, hint=f"check the name; for a private one {login}") from error
    except LocalTokenNotFoundError as error:
        raise fail("E0693", f"`{repository}` needs a token", hint=login) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            message = f"the Hugging Face hub does not let you do that with `{repository}`: {first_line(error)}"
            raise fail("E0693", message, hint=login) from error
        raise fail("E0691", f"the Hugging Face hub refuses: {first_line(error)}", hint="try again later") from error
    except (ConnectionError, TimeoutError, FileNotFoundError, RuntimeError, transport) as error:
        # FileNotFoundError: what huggingface_hub says where it finds neither a network nor a copy. RuntimeError: a file
        # could not be sent.
        message = f"the Hugging Face hub cannot be reached: {first_line(error.__cause__ or error)}"
        raise fail("E0691", message, hint="is there a network? HF_ENDPOINT names another hub") from error
