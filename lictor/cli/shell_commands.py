"""`lictor completion` and `lictor version`: for the shell and for bug reports. No agent is asked."""

from __future__ import annotations

import platform

import click

from lictor import __version__
from lictor.cli.options import command, data_command
from lictor.cli.output import emit, write
from lictor.core.errors import UsageError


@command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> int:
    """See `help.completion`. The script calls `lictor` itself, which completes live names."""
    from click.shell_completion import get_completion_class

    complete = get_completion_class(shell)
    if complete is None:
        raise UsageError(shell)
    root = ctx.find_root().command
    write(complete(root, {}, "lictor", "_LICTOR_COMPLETE").source())
    return 0


@data_command("version")
def version(output: str) -> int:
    """See `help.version`."""
    data = {"version": __version__, "python": platform.python_version()}
    emit(data, output, lambda: write(f"lictor {__version__}"))
    return 0
