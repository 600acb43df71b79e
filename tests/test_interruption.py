"""What a signal does to the system call that it comes amid."""

import ctypes
import errno
import os
import signal
import threading
import time

import pytest

from xclipt.interruption import Stopped, deferred, stopping


def _read_amid_a_signal():
    """One byte by a call of C's own, which Python does not try again, and its error number."""
    reading, writing = os.pipe()
    library = ctypes.CDLL(None, use_errno=True)

    def disturb():
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        os.write(writing, b"x")

    thread = threading.Thread(target=disturb)
    thread.start()
    read = library.read(reading, ctypes.create_string_buffer(1), 1)
    number = ctypes.get_errno()
    thread.join()
    os.close(reading)
    os.close(writing)
    return read, number


def test_a_deferred_signal_parts_no_system_call():
    with pytest.raises(Stopped), stopping(), deferred() as asked:
        assert _read_amid_a_signal() == (1, 0)
        assert asked()


def test_another_ends_the_call_that_waits():
    seen = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        assert _read_amid_a_signal() == (-1, errno.EINTR)
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT]
