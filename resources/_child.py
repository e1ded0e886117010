"""Becomes another program that dies with the process that started it. Run as a script by path; imports nothing of ours.

Arguments: PARENT_PID SIGNAL UID GID PROGRAM [ARGUMENT...]. Signals get their default handling back, which a background
shell takes away and programs inherit. With UID 0 or more the privileges are dropped for good. On Linux the kernel then
sends SIGNAL when the parent is gone; this comes after the drop, which would clear it. Elsewhere nothing does, and the
next start has to clean up.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
KEEP_USER = -1


def main(arguments: list[str]) -> None:
    """Replace this process by the program; returns only when the parent is already gone."""
    parent, death_signal, uid, gid = (int(argument) for argument in arguments[:4])
    program = arguments[4:]
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGPIPE, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    if uid != KEEP_USER:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() == parent:  # it may have died before the line above
        os.execv(program[0], program)  # noqa: S606 (becoming the program is the purpose)


if __name__ == "__main__":
    main(sys.argv[1:])
