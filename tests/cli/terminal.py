"""A program on pseudo-terminals, driven as a person drives it: wait for what it shows, then type."""
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

from cli_case import BINARY, TIMEOUT, environment

CTRL_C, CTRL_D, UP = b"\x03", b"\x04", b"\x1b[A"
PASTE_ON, PASTE_OFF = b"\x1b[?2004h", b"\x1b[?2004l"  # a program that takes pasted texts between marks, and that no longer does


class Terminal:
    """Standard input and error on one pseudo-terminal, as is standard output unless `apart`: then it has one of its own."""

    def __init__(self, case, *arguments, apart=False, columns=200, **changes):
        self.case = case
        self.master, slave = pty.openpty()
        self.out_master, out_slave = pty.openpty() if apart else (self.master, slave)
        self.slave = os.dup(slave)  # to look at its modes; also keeps what was written readable
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))

        def own_terminal():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen([BINARY, *arguments], stdin=slave, stdout=out_slave, stderr=slave, env=environment(**changes),
                                        preexec_fn=own_terminal)
        for fd in {slave, out_slave}:
            os.close(fd)
        case.addCleanup(self.close)
        self.open = {self.master, self.out_master}
        self.shown = b""   # since the last expect, without PASTE_ON and PASTE_OFF
        self.modes = b""   # those two, as they came
        self.answers = b""  # what came out of a standard output apart

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for fd in {self.master, self.out_master, self.slave}:
            os.close(fd)

    def pump(self, seconds):
        """Reads what is there, waiting up to `seconds` for something; false when nothing came."""
        came = False
        for fd in select.select(list(self.open), [], [], seconds)[0]:
            try:
                block = os.read(fd, 65536)
            except OSError:  # nobody has its other end open any more
                self.open.discard(fd)
                continue
            came = True
            if fd == self.master:
                self.shown += block
                self.modes += b"".join(re.findall(rb"\x1b\[\?2004[hl]", self.shown))
                self.shown = self.shown.replace(PASTE_ON, b"").replace(PASTE_OFF, b"")
            else:
                self.answers += block
        return came

    def expect(self, pattern):
        """Waits until what is shown matches; returns everything up to there, and forgets it."""
        pattern = pattern.encode() if isinstance(pattern, str) else pattern
        end = time.monotonic() + TIMEOUT
        while not (match := re.search(pattern, self.shown, re.S)):
            ended = self.process.poll() is not None
            if not self.pump(0.2) and (ended or time.monotonic() > end):
                self.case.fail(f"waited for {pattern!r}, was shown {self.shown!r}, exit code {self.process.poll()}")
        text = self.shown[:match.end()]
        self.shown = self.shown[match.end():]
        return text.decode(errors="replace")

    def type(self, text):
        os.write(self.master, text.encode() if isinstance(text, str) else text)

    def prompt(self):
        return self.expect(rb">>>(\x1b\[0m)? $")

    def more(self):
        """The prompt inside a text of several lines."""
        return self.expect(rb"\.\.\.(\x1b\[0m)? $")

    def say(self, line):
        """A line at the prompt; returns what is shown until the next prompt, without the echo of the line."""
        self.type(line + "\r")
        return self.prompt()

    def takes_pastes(self):
        return self.modes.endswith(PASTE_ON)

    def paste(self, text):
        """As terminals send it to a program that asked for marks. Waits until it is shown: the line is drawn anew with its prompt, which
        must not pass for the next one."""
        self.case.assertTrue(self.takes_pastes())
        self.type("\x1b[200~" + text.replace("\n", "\r") + "\x1b[201~")
        self.expect(re.escape(text.rstrip("\n").split("\n")[-1].strip()))

    def exit_code(self):
        end = time.monotonic() + TIMEOUT
        while self.process.poll() is None:
            self.case.assertLess(time.monotonic(), end, f"does not end; shown {self.shown!r}")
            self.pump(0.1)
        while self.pump(0.1):
            pass
        return self.process.returncode

    def is_as_before(self):
        """Whether the terminal is back in the mode in which it shows what is typed, waits for whole lines and pastes without marks."""
        local = termios.tcgetattr(self.slave)[3]
        return bool(local & termios.ECHO) and bool(local & termios.ICANON) and not self.takes_pastes()
