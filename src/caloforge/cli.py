"""The command line: `caloforge COMMAND ...`. Each command reads, calls one function of the
package, and writes.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer

from caloforge.commands import (
    data,
    exploring,
    exporting,
    generating,
    geometry,
    judging,
    searching,
    simulating,
    training,
    watching,
)
from caloforge.commands.examples import epilog
from caloforge.errors import CaloForgeError
from caloforge.signals import Terminated, clean_up_when_terminated

app = typer.Typer(
    help="Fast calorimeter simulation with generative models: train, judge and deploy shower "
    "generators.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(data.app, name="data")
app.add_typer(geometry.app, name="geometry")
COMMANDS: dict[str, Callable[..., None]] = {
    "models": training.models,
    "recipes": training.recipes,
    "simulate": simulating.simulate,
    "train": training.train,
    "watch": watching.watch,
    "search": searching.search,
    "generate": generating.generate,
    "export": exporting.export,
    "evaluate": judging.evaluate,
    "report": judging.report,
    "explore": exploring.explore,
    "bench": generating.bench,
    "demo": judging.demo,
}
for name, command in COMMANDS.items():
    app.command(name, epilog=epilog(name))(command)
for group, members in (("data", data.app), ("geometry", geometry.app)):
    for member in members.registered_commands:
        member.epilog = epilog(f"{group} {member.name}")


def main() -> None:
    """Entry point: errors a user can cause become one sentence and exit code 2, Ctrl-C becomes
    130 and SIGTERM 143.
    """
    clean_up_when_terminated()
    warnings.showwarning = _one_line_warning
    try:
        code = app(prog_name="caloforge", standalone_mode=False)
    except CaloForgeError as error:
        _stop(str(error))
    except KeyboardInterrupt:
        _stop("Interrupted.", 130)
    except Terminated:
        _stop("Stopped by SIGTERM; nothing was left half written.", 143)
    except MemoryError:
        _stop("Out of memory; use a smaller --batch or fewer showers at a time.")
    except OSError as error:
        _stop(f"{error.strerror or error}: {error.filename or 'the system refused'}.")
    except Exception as error:
        # Typer's own usage errors carry a message meant for people; anything else is a bug and
        # keeps its traceback.
        if hasattr(error, "format_message"):
            _stop(_usage(error))
        if isinstance(error, typer.Abort):  # how typer reports Ctrl-C
            _stop("Interrupted.", 130)
        raise
    if code == 130:  # newer versions of typer return it instead
        _stop("Interrupted.", 130)


def _usage(error: Any) -> str:
    """What Typer says of a wrong command line, and which help to read; nothing where it has just
    shown the help.
    """
    message, context = error.format_message(), getattr(error, "ctx", None)
    if not message or context is None:
        return message
    return f"{message.rstrip('.')}; see {context.command_path} --help."


def _version(asked: bool) -> None:
    if asked:
        from caloforge import __version__

        print(f"CaloForge {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", callback=_version),
    ] = False,
) -> None:
    """Options of the program as a whole."""


def _stop(sentence: str, code: int = 2) -> None:
    from rich.console import Console

    if sentence:
        Console(stderr=True, soft_wrap=True).print(
            f"caloforge: {sentence}", markup=False, highlight=False
        )
    sys.exit(code)


def _one_line_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    from rich.console import Console

    Console(stderr=True, soft_wrap=True).print(
        f"caloforge: note: {message}", markup=False, highlight=False
    )


if __name__ == "__main__":
    main()
