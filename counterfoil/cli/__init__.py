"""The command line: one file a command, loaded when it is named.

Invariants: stdout is data, stderr is progress and errors; an error is one line, `CODE: what; where; what to do next`, and
its exit code is that of docs/commands.md; a traceback only with `--debug`.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import Any

import click

from counterfoil.cli.output import let_go, note
from ledger.errors import CounterfoilError
from ledger.ids import is_text

COMMANDS = {
    "run": "run a pipeline file",
    "resume": "carry on a run that was stopped or killed",
    "abandon": "close a run that will not be carried on",
    "validate": "check a pipeline file",
    "graph": "draw a pipeline file or a run",
    "replay": "fold a run's log and give the verdict",
    "explain": "tell one token's or one row's whole story",
    "runs": "list the runs",
    "show": "show one run",
    "tokens": "list a run's tokens",
    "pending": "list what is waiting in a run",
    "verify": "check bytes, laws, read tables, completeness",
    "rebuild": "make the read tables again from the log",
    "query": "ask the read tables and the log in SQL",
    "plugins": "list the plugins",
    "db": "the ledger's schema",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"counterfoil.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="counterfoil", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def cli(debug: bool) -> None:
    """Row pipelines whose every token leaves a counterfoil."""


def main(arguments: list[str] | None = None) -> None:
    """The program: runs a command and exits with its code."""
    given = sys.argv[1:] if arguments is None else arguments
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(_ended(_run(given)))


def _ended(code: int) -> int:
    """The exit code once everything is written; what cannot be written any more is let go of."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        let_go()
    return code


def _run(given: list[str]) -> int:
    debug, stdout = "--debug" in given, sys.stdout
    try:
        if sys.path[:1] != [os.getcwd()]:
            sys.path.insert(0, os.getcwd())
    except FileNotFoundError:
        return _failed("DIRECTORY_GONE: expected a working directory, found that it was removed; counterfoil; change to "
                       "another directory", 2, debug=debug)
    try:
        result: Any = cli.main(args=given, prog_name="counterfoil", standalone_mode=False)
    except CounterfoilError as error:
        return _failed(str(error), error.exit_code, debug=debug)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "counterfoil"
        return _failed(f"USAGE: {error.format_message().rstrip('.')}; {where}; see {where} --help", 2, debug=debug)
    except click.ClickException as error:
        return _failed(f"USAGE: {error.format_message()}", 2, debug=debug)
    except SystemExit:
        if sys.stdout is stdout:
            raise
        return 0  # click has put another stdout there, for nobody reads its help any more
    except (click.Abort, KeyboardInterrupt):
        return _failed("STOPPED: interrupted before it had begun, or after it had ended", 130, debug=debug)
    except Exception as error:
        if isinstance(error, UnicodeEncodeError) and not all(map(is_text, given)):
            return _failed("USAGE: expected arguments in UTF-8, found other bytes; counterfoil; write them in UTF-8", 2,
                           debug=debug)
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return _failed(f"UNEXPECTED: {text}; this is a defect; repeat with --debug for the traceback", 1, debug=debug)
    return result if isinstance(result, int) else 0


def _failed(line: str, code: int, *, debug: bool) -> int:
    if debug and sys.exc_info()[0] is not None:
        import traceback

        traceback.print_exc()
    note(line)
    return code
