"""The command line of ``llamafile-build``: options in, one result or one error line out."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from llamafile_runtime.format.config import PackedConfig
from llamafile_runtime.format.targets import TARGETS, Target

from . import __version__
from .build import BuildRequest, BuildResult, build
from .configure import override, read_config_file, text_or_file
from .console import Console, human_size
from .errors import BuilderError, UsageError
from .summary import summary_lines

_EPILOG = """\b
The first start, on every system:
  Linux, macOS   sh ./NAME.llamafile     (or chmod +x, then ./NAME.llamafile from a shell)
  Windows        rename it to NAME.llamafile.exe and double-click it

Only shells start a file with Windows among its targets directly (it begins with MZ); `sh ./FILE`
works everywhere. Without Windows among the targets the file is an ordinary shell program."""

F = TypeVar("F", bound=Callable[..., Any])


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    try:
        cli.main(prog_name="llamafile-build", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except UsageError as error:
        _fail(str(error), 2)
    except BuilderError as error:
        _fail(str(error), 1)
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted; nothing was written", 130)
    sys.exit(0)


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"llamafile-build: error: {message}", err=True)
    sys.exit(code)


def _targets_option(command: F) -> F:
    return click.option(
        "--target", "targets", multiple=True, metavar="NAME",
        help=f"Machine to run on; give it once for each, or separated by commas. "
        f"Default: all of {', '.join(TARGETS)}.",
    )(command)  # fmt: skip


def _packed_options(command: F) -> F:
    """Options that become the built file's own defaults."""
    for option in reversed(
        (
            click.option("--system-prompt", metavar="TEXT|@FILE", help="System prompt to pack."),
            click.option(
                "--chat-template", metavar="TEXT|@FILE",
                help="Jinja chat template to use in place of the model's own.",
            ),
            click.option(
                "--config", "config_file", metavar="FILE.toml",
                type=click.Path(path_type=Path), help="Defaults to pack, from a TOML file.",
            ),
            click.option("--temp", "temperature", type=float, help="Default temperature."),
            click.option("--top-k", type=int, help="Default top-k."),
            click.option("--top-p", type=float, help="Default top-p."),
            click.option("--min-p", type=float, help="Default min-p."),
            click.option("--repeat-penalty", type=float, help="Default repeat penalty."),
            click.option("--seed", type=int, help="Default seed; -1 takes a new one each time."),
            click.option("-n", "--max-tokens", type=int, help="Default limit of an answer."),
            click.option("-c", "--ctx-size", "context", type=int, help="Default context, tokens."),
            click.option("-t", "--threads", type=int, help="Default number of threads."),
            click.option("--host", help="Address that the file serves on by default."),
            click.option("--port", type=int, help="Port that the file serves on by default."),
            click.option("--browser/--no-browser", default=None, help="Open the browser or not."),
        )
    ):  # fmt: skip
        command = option(command)
    return command


def _output_options(command: F) -> F:
    command = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(
        command
    )
    return click.option("-q", "--quiet", is_flag=True, help="Print errors only.")(command)


@click.group(
    invoke_without_command=True,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "-m",
    "--model",
    metavar="MODEL",
    help="A .gguf file, the first part of a split one, a .zip that holds one, or `smollm2` "
    "(SmolLM2-135M-Instruct, the default).",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File to write. Default: the model's name with .llamafile, in this folder.",
)
@_targets_option
@_packed_options
@click.option("--name", help="Name to show in place of the model's own.")
@click.option("--description", help="One line about the file, shown by `info`.")
@click.option("--license", "license_", metavar="SPDX", help="The model's licence.")
@click.option("--run", is_flag=True, help="Start the file right after it was written.")
@click.option("--verify/--no-verify", default=True, help="Reopen and check what was written.")
@click.option("-f", "--force", is_flag=True, help="Replace FILE if it exists.")
@click.option("--offline", is_flag=True, help="Never use the network.")
@_output_options
@click.version_option(__version__, prog_name="llamafile-build")
@click.pass_context
def cli(context: click.Context, /, **options: Any) -> None:
    """Make ONE file from a model: it runs on Linux, macOS and Windows, with nothing installed."""
    if context.invoked_subcommand is not None:
        return
    console = Console(quiet=options["quiet"] or options["as_json"])
    result = build(_request(options), console)
    _report(result, options["quiet"], options["as_json"])
    if options["run"]:
        _run(result.output)


@cli.command()
@_targets_option
@click.option("--offline", is_flag=True, help="Only say what is missing.")
@click.option("--check", is_flag=True, help="Hash what is there again, and mend what is damaged.")
@click.option("--no-model", is_flag=True, help="Leave out the default model.")
@_output_options
def fetch(
    targets: tuple[str, ...], offline: bool, check: bool, no_model: bool, quiet: bool, as_json: bool
) -> None:
    """Download every component that a build needs, so that later builds work offline."""
    from .parts import fetch_parts

    report = fetch_parts(
        parse_targets(targets), Console(quiet=quiet or as_json),
        offline=offline, check=check, with_model=not no_model,
    )  # fmt: skip
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(report), indent=2))
    elif not quiet:
        click.echo(f"{report.components} components are ready, {human_size(report.bytes)}")


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def verify(file: Path, quiet: bool) -> None:
    """Check a built file: every member's SHA-256, its place, and the format's rules."""
    from .verify import verify_archive

    if not file.is_file():
        raise UsageError(f"{file} does not exist")
    with Console(quiet=quiet).progress("Verifying", file.stat().st_size) as advance:
        verify_archive(file, advance)
    if not quiet:
        click.echo(f"{file}: every member is as its manifest says")


def parse_targets(names: Sequence[str]) -> tuple[Target, ...]:
    """The targets of ``--target`` options, in the format's order. Raises UsageError."""
    wanted = {name.strip() for item in names for name in item.split(",") if name.strip()}
    unknown = sorted(wanted - set(TARGETS) - {"all"})
    if unknown:
        raise UsageError(f"unknown target {unknown[0]!r}; there are: {', '.join(TARGETS)}")
    if not wanted or "all" in wanted:
        return tuple(TARGETS.values())
    return tuple(target for target in TARGETS.values() if target.name in wanted)


def _request(options: dict[str, Any]) -> BuildRequest:
    config_file = options["config_file"]
    packed = read_config_file(config_file) if config_file else PackedConfig()
    texts = {key: text_or_file(options[key]) for key in ("system_prompt", "chat_template")}
    return BuildRequest(
        model=options["model"],
        output=options["output"],
        targets=parse_targets(options["targets"]),
        config=override(packed, {**options, **texts}),
        name=options["name"],
        description=options["description"],
        license=options["license_"],
        force=options["force"],
        offline=options["offline"],
        verify=options["verify"],
    )


def _report(result: BuildResult, quiet: bool, as_json: bool) -> None:
    if as_json:
        data = dataclasses.asdict(result) | {"output": str(result.output)}
        data["windows_launcher"] = result.windows_launcher and str(result.windows_launcher)
        click.echo(json.dumps(data, indent=2))
    elif not quiet:
        click.echo("\n".join(summary_lines(result)))


def _run(output: Path) -> NoReturn:
    sys.stdout.flush()
    path = str(output.resolve())
    if os.name == "posix":
        os.execvp("sh", ["sh", path])  # noqa: S606  # sh reads the file as a script
    # Windows runs programs by their ending only: start it under a second name beside it.
    program = path if path.lower().endswith(".exe") else path + ".exe"
    if program != path and not Path(program).exists():
        os.link(path, program)
    sys.exit(subprocess.run([program], check=False).returncode)
