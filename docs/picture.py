"""The README's picture: runs `ttrl demo` on a terminal of its own and draws what it ended with.

python docs/picture.py docs/demo.svg
"""

from __future__ import annotations

import os
import pty
import re
import struct
import sys
import termios
from fcntl import ioctl
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS, LINES = 96, 60
SHOWN = 3
"""Steps at the beginning and at the end that are drawn."""


def run_on_terminal(command: list[str]) -> str:
    """All that a command writes to a terminal of its own."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(COLUMNS=str(COLUMNS), LINES=str(LINES), TERM="xterm-256color")
        os.execvp(command[0], command)  # noqa: S606 - the command of whoever draws
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    written = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux's way of saying that the other end is closed
            break
        if not piece:
            break
        written += piece
    os.waitpid(pid, 0)
    return written.decode(errors="replace")


def final_screen(written: str) -> str:
    """What is left on the screen when every redrawing is done."""
    lines: list[str] = [""]
    for piece in re.split(r"(\r?\n|\x1b\[1A|\x1b\[2K|\r)", written):
        if piece in ("\n", "\r\n"):
            lines.append("")
        elif piece == "\x1b[1A":
            lines.pop()
        elif piece == "\x1b[2K":
            lines[-1] = ""
        elif piece != "\r":
            lines[-1] += re.sub(r"\x1b\[\?25[lh]", "", piece)
    return "\n".join(lines)


def without_middle(screen: str) -> str:
    """The screen with the first and the last steps of the run alone."""
    lines = screen.split("\n")
    steps = [place for place, line in enumerate(lines) if re.match(r"step \d+/", line)]
    if len(steps) <= 2 * SHOWN:
        return screen
    return "\n".join([*lines[: steps[SHOWN]], "...", *lines[steps[-SHOWN] :]])


def main() -> None:
    target = Path(sys.argv[1])
    written = run_on_terminal([sys.executable, "-c", "from serve.cli import main; main()", "demo"])
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(Text.from_ansi(without_middle(final_screen(written))))
    target.write_text(console.export_svg(title="ttrl demo"))


if __name__ == "__main__":
    main()
