"""What a run shares with the terminal: signals and a progress bar."""

import signal
import sys
import threading
from typing import Any


class Signals:
    """Notes SIGINT and SIGTERM instead of dying in the middle of a block.

    A second signal acts as usual.
    """

    def __init__(self) -> None:
        self.caught: int | None = None
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.before[number] = signal.signal(number, self.note)
        return self

    def note(self, number: int, frame: Any) -> None:
        """Handle the signal: remember it."""
        self.caught = number
        self.restore()

    def restore(self) -> None:
        """Put the handlers back that were there before."""
        for number, handler in self.before.items():
            # None: a handler that was not installed from Python.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self.before = {}

    def __exit__(self, *error: Any) -> None:
        self.restore()


class NoBar:
    """Stands for a progress bar where there is none."""

    n = 0

    def __enter__(self) -> "NoBar":
        return self

    def __exit__(self, *error: Any) -> None: ...

    def update(self, steps: int) -> None:
        """Show nothing."""

    def set_postfix_str(self, text: str) -> None:
        """Show nothing."""


def progress_bar(progress: bool | None, done: int, total: int) -> Any:
    """Return a tqdm bar, or a stand-in.

    Args:
        progress: Whether to show one; None where standard error is a terminal.
        done: Steps done before.
        total: Steps in all.
    """
    wanted = sys.stderr.isatty() if progress is None else progress
    if not wanted:
        return NoBar()
    try:
        from tqdm import tqdm
    except ImportError as error:
        if progress is None:
            return NoBar()
        raise ImportError(
            '`progress=True` needs `tqdm`: pip install "jax-md[io]".'
        ) from error
    return tqdm(total=total, initial=done, unit="step", unit_scale=True, smoothing=0.05)
