"""The terminal that somebody sits at: whether its background is light. Asked by the command, never by a login."""

from __future__ import annotations

import os
import re
import select
import termios

PATH = "/dev/tty"
# The colour of the background (OSC 11, as xterm has it), and then what every terminal answers, so that nobody waits for
# one that knows no colours.
_QUESTION = b"\x1b]11;?\a\x1b[c"
_COLOUR = re.compile(rb"\x1b\]11;rgba?:([0-9A-Fa-f]{1,4})/([0-9A-Fa-f]{1,4})/([0-9A-Fa-f]{1,4})")
_END = re.compile(rb"\x1b\[\?[0-9;]*c")
_TENTHS = 5  # of a second, that the next part of an answer is waited for
_LONGEST = 256
_MUTE = ("", "dumb", "unknown")


def light_background() -> bool:
    """Whether the terminal of this process has a light background; False where it does not say.

    ``COLORFGBG`` says it, or the terminal itself does when it is asked. Its modes are put back, whatever happens.
    """
    colour = os.environ.get("COLORFGBG", "").rpartition(";")[2]
    if colour.isascii() and colour.isdigit():
        # The colours of a terminal: 7 and from 9 on are light, 8 is dark grey.
        return int(colour) == 7 or int(colour) > 8
    if os.environ.get("TERM", "") in _MUTE:
        return False
    found = _COLOUR.search(_answer())
    if found is None:
        return False
    red, green, blue = (int(each, 16) / float((1 << 4 * len(each)) - 1) for each in found.groups())
    return 0.299 * red + 0.587 * green + 0.114 * blue > 0.5  # ITU-R BT.601, 2.5.1


def _answer() -> bytes:
    """What the terminal answers; nothing where there is none, or somebody has typed ahead."""
    try:
        terminal = os.open(PATH, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        # In the background we would be stopped.
        if os.tcgetpgrp(terminal) != os.getpgrp() or select.select([terminal], [], [], 0)[0]:
            return b""
        before = termios.tcgetattr(terminal)
        changed = [*before[:6], list(before[6])]
        changed[3] &= ~(termios.ECHO | termios.ICANON)
        changed[6][termios.VMIN], changed[6][termios.VTIME] = 0, _TENTHS
        try:
            termios.tcsetattr(terminal, termios.TCSADRAIN, changed)
            os.write(terminal, _QUESTION)
            return _read(terminal)
        finally:
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)
    except (OSError, termios.error):
        return b""
    finally:
        os.close(terminal)


def _read(terminal: int) -> bytes:
    answer = b""
    while len(answer) < _LONGEST and not _END.search(answer):
        more = os.read(terminal, _LONGEST)
        if not more:
            break
        answer += more
    return answer
