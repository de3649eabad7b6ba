"""The `lictor` program: from argv to an exit code.

It is here so that every way of ending is in one place: an answer, an error with its hint, a usage
error, Ctrl-C, a reader that went away. No traceback is ever shown unless LICTOR_DEBUG asks for it.
`--version` answers before anything is imported; what a command needs is imported when it is called.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from click import UsageError as ClickUsageError

    from lictor.core.errors import LictorError

#: What a shell reports for a program that SIGPIPE ended.
PIPE_CLOSED = 141
INTERRUPTED = 130

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def main() -> None:
    """The console entry point."""
    sys.exit(run(sys.argv[1:]))


def run(argv: list[str]) -> int:
    """Run one command line and return its exit code (the table in the reference of the CLI)."""
    if argv in (["--version"], ["-V"]):
        from lictor import __version__

        print(f"lictor {__version__}")
        return 0
    try:
        _prepare_streams()
        return _flushed(_command(argv))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader went away (`| head -1`): end quietly
        _abandon_streams()
        return PIPE_CLOSED
    except OSError:  # not even stderr can be written to
        _abandon_streams()
        return 1


def _command(argv: list[str]) -> int:
    """Run it and turn every error into a line on stderr and an exit code."""
    import click

    from lictor.core.errors import LictorError

    try:
        return _invoke(argv)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.exceptions.Abort:
        return INTERRUPTED
    except click.UsageError as error:
        return _usage(error)
    except click.ClickException as error:
        return _say_error(error.format_message(), "", error.exit_code)
    except LictorError as error:
        return _lictor_error(error)
    except (KeyboardInterrupt, BrokenPipeError):
        raise
    except Exception as error:  # noqa: BLE001 - the last gate: a person never meets a traceback
        if os.environ.get("LICTOR_DEBUG"):
            import traceback

            traceback.print_exc()
        from lictor.cli.words import say

        if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
            return _say_error(say("error.cannot_write", why=error.strerror), "", 1)
        text = say("error.unexpected", kind=type(error).__name__, detail=str(error) or "-")
        return _say_error(text, say("hint.unexpected"), 1)


def _invoke(argv: list[str]) -> int:
    from lictor.cli.app import cli

    if "_LICTOR_COMPLETE" in os.environ:
        cli.main(argv, prog_name="lictor")  # answers the shell and exits
    with cli.make_context("lictor", list(argv)) as context:
        code = cli.invoke(context)
    return code if isinstance(code, int) else 0


def _usage(error: ClickUsageError) -> int:
    from lictor.cli.usage import usage_text
    from lictor.cli.words import say

    hint = ""
    if error.ctx is not None:
        hint = say("hint.usage", command=f"{error.ctx.command_path} --help")
    return _say_error(usage_text(error), hint, 2)


def _lictor_error(error: LictorError) -> int:
    from lictor.cli.words import of_error

    return _say_error(*of_error(error), error.exit_code)


def _say_error(message: str, hint: str, code: int) -> int:
    from lictor.cli.output import talk
    from lictor.cli.paint import color_on, painted
    from lictor.cli.words import say

    color = color_on(sys.stderr)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        _abandon(sys.stdout)  # what it holds can never be written: do not try again at exit
    talk(f"{painted(say('prefix.error'), 'bad', color=color)}{_visible(message)}")
    if hint:
        talk(f"{painted(say('prefix.hint'), 'head', color=color)}{_visible(hint)}")
    return code


def _visible(text: str) -> str:
    """Several lines may stay (a config has several problems); what steers a terminal may not."""
    from lictor.cli.paint import clean

    return "\n".join(clean(line) for line in text.split("\n"))


def _prepare_streams() -> None:
    """A terminal that cannot show a character shows `?`; nothing crashes for it."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]


def _flushed(code: int) -> int:
    """Write out everything while errors can still be told; returns `code`."""
    from lictor.cli.words import say

    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            return _say_error(say("error.cannot_write", why=error.strerror), "", 1)
    return code


def _abandon_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            _abandon(stream)


def _abandon(stream: TextIO) -> None:
    """Let what the stream still holds go nowhere, so that the interpreter does not fail at exit."""
    with contextlib.suppress(OSError, AttributeError, ValueError):
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, stream.fileno())
        os.close(devnull)


if __name__ == "__main__":
    main()
