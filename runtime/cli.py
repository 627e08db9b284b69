"""The command line of the built file. Only this module prints errors and chooses exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from .archive import Archive
from .errors import RuntimeFailure
from .options import model_options, server_options, take_settings
from .settings import Settings


@dataclass(frozen=True)
class Invocation:
    """What every command needs: the opened archive and the options before the command."""

    archive: Archive
    settings: Settings = Settings()

    @property
    def note(self) -> Any:
        return lambda text: click.echo(f"{self.archive.name}: {text}", err=True)


class _Commands(click.Group):
    """Says what to do where a prompt was taken for a command."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if self.get_command(ctx, args[0]) is None:
            ctx.fail(
                f"there is no command {args[0]!r}; to give a prompt use -p "
                f"(commands: {', '.join(self.list_commands(ctx))})"
            )
        return super().resolve_command(ctx, args)


def _version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        archive = ctx.find_object(Invocation).archive  # type: ignore[union-attr]
        click.echo(
            f"{archive.manifest.name} (llamafile-build {archive.manifest.builder_version}, "
            f"llama.cpp {archive.manifest.llama_cpp_version})"
        )
        ctx.exit()


_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=_Commands, invoke_without_command=True, context_settings=_HELP)
@click.option(
    "-p",
    "--prompt",
    metavar="TEXT",
    help="Continue TEXT on standard output; - reads it from standard input.",
)
@click.option(
    "-f",
    "--file",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Continue the text of a file.",
)
@click.option(
    "-e",
    "--escape/--no-escape",
    default=True,
    help=r"Turn \n, \t, \\ … in TEXT into what they mean. [default: yes]",
)
@model_options
@server_options
@click.option("--server", "as_server", is_flag=True, hidden=True)
@click.option("--cli", "as_cli", is_flag=True, hidden=True)
@click.option("--chat", "-cnv", "--conversation", "as_chat", is_flag=True, hidden=True)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show versions and exit.",
)
@click.pass_context
def cli(
    ctx: click.Context,
    /,
    prompt: str | None,
    file: Path | None,
    escape: bool,
    as_server: bool,
    as_cli: bool,
    as_chat: bool,
    **values: Any,
) -> int | None:
    """A language model in one file.

    Without a command it serves a chat page and an OpenAI-compatible API on this computer.
    """
    settings = take_settings(values)
    invocation = replace(ctx.obj, settings=settings)
    ctx.obj = invocation
    if ctx.invoked_subcommand is not None:
        if prompt is not None or file is not None:
            ctx.fail("-p and -f stand alone, without a command")
        return None
    if prompt is not None or file is not None:
        return _complete(invocation, _prompt_text(ctx, prompt, file, escape))
    if as_chat:
        return _chat(invocation)
    serving = as_server or settings.given & {"host", "port", "browser"}
    if not serving:
        text = _piped()
        if text:
            return _complete(invocation, text)
        if as_cli:
            return _chat(invocation)
    return _serve(invocation)


def _prompt_text(ctx: click.Context, prompt: str | None, file: Path | None, escape: bool) -> str:
    from .console import argument_text, read_stdin, unescape

    if prompt is not None and file is not None:
        ctx.fail("give either -p or -f")
    if file is not None:
        try:
            return file.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise RuntimeFailure(f"{file} cannot be read: {error.strerror or error}") from error
    assert prompt is not None
    if prompt == "-":
        return read_stdin()
    text = argument_text(prompt)
    return unescape(text) if escape else text


def _piped() -> str:
    from .console import read_stdin, stdin_is_redirected

    return read_stdin() if stdin_is_redirected() else ""


def _complete(invocation: Invocation, prompt: str) -> int:
    from .compose import make_engine, prepare
    from .prompt import complete

    start = prepare(invocation.archive, invocation.settings)
    return complete(make_engine(start, invocation.note), prompt)


def _chat(invocation: Invocation) -> int:
    from .compose import make_engine, prepare
    from .terminal import chat

    start = prepare(invocation.archive, invocation.settings)
    return chat(make_engine(start, invocation.note), start.choice.name or invocation.archive.name)


def _serve(invocation: Invocation) -> int:
    from .compose import prepare, serve_file

    start = prepare(invocation.archive, invocation.settings)
    return serve_file(start, click.echo, invocation.note)


@cli.command("chat")
@model_options
@click.pass_obj
def chat_command(invocation: Invocation, /, **values: Any) -> int:
    """Chat in the terminal."""
    settings = take_settings(values).over(invocation.settings)
    return _chat(replace(invocation, settings=settings))


@cli.command("serve")
@model_options
@server_options
@click.pass_obj
def serve_command(invocation: Invocation, /, **values: Any) -> int:
    """Serve the chat page and the API (as without a command)."""
    settings = take_settings(values).over(invocation.settings)
    return _serve(replace(invocation, settings=settings))


@cli.command("info")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def info_command(invocation: Invocation, as_json: bool) -> None:
    """Show what the file holds."""
    from .info import describe, describe_json

    click.echo(describe_json(invocation.archive) if as_json else describe(invocation.archive))


@cli.command("verify")
@click.pass_obj
def verify_command(invocation: Invocation) -> None:
    """Check every byte of the file against its digests."""
    from .verify import verify_archive

    archive = invocation.archive
    with click.progressbar(
        length=archive.size, label="Checking", file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as bar:
        verify_archive(archive, bar.update)
    click.echo(f"{archive.name}: all {len(archive.members)} members are as built")


@cli.command("extract")
@click.argument("members", nargs=-1, metavar="MEMBER…")
@click.option("--all", "everything", is_flag=True, help="Every member.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path(),
    metavar="FOLDER",
    help="Write below FOLDER. [default: here]",
)
@click.option("--force", is_flag=True, help="Replace files that exist.")
@click.pass_context
def extract_command(
    ctx: click.Context, members: tuple[str, ...], everything: bool, output: Path, force: bool
) -> None:
    """Write members of the file to disk (`info` lists them)."""
    from .extract import extract_members

    archive = ctx.obj.archive
    if bool(members) == everything:
        ctx.fail("name the members to extract, or give --all")
    for path in extract_members(archive, None if everything else members, output, force=force):
        click.echo(path)


def run(archive: Archive, arguments: Sequence[str]) -> int:
    """Run the command line; gives the exit code. Raises RuntimeFailure and OSError."""
    try:
        # Not cli.main: it exits by itself, and on Windows expands wildcards even in prompts.
        context = cli.make_context(archive.name, list(arguments), obj=Invocation(archive))
        with context:
            result = cli.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.UsageError as error:
        where = f" (try {error.ctx.command_path} --help)" if error.ctx else ""
        _report(archive.name, f"{error.format_message()}{where}")
        return 2
    except click.Abort as error:
        raise KeyboardInterrupt from error
    return result if isinstance(result, int) else 0


def _report(name: str, sentence: str) -> None:
    print(f"{name}: error: {sentence}", file=sys.stderr, flush=True)
