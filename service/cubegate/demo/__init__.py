"""Makes small cubes with the structure of the real archives, and prints lines that query them."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from cubegate.demo.lines import Line, lines, print_lines
from cubegate.errors import ConfigurationError

__all__ = ["Line", "lines", "make_demo", "print_lines"]


def make_demo(directory: Path, console: Console) -> Path:
    """Make the demo cubes in `directory`, or only what is missing of them, and show progress.

    Returns the path of the configuration file that serves them.

    Raises:
        ConfigurationError: the extra `demo` is not installed, or `directory` holds other files.
    """
    try:
        from cubegate.demo.build import build_demo  # noqa: PLC0415 - needs the packages of an extra
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the demo needs the package {error.name}", mend='Install it with: pip install "cubegate[demo]".'
        ) from error
    return build_demo(directory, console)
