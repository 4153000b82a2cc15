"""The event loop: the one place where a process waits for sockets, timers, input and signals.

pika lets a program bring its own I/O loop (``AbstractSelectorIOLoop``). This one is driven from
straight-line code, a turn at a time: callers read top to bottom, heartbeats are served during every
wait, and a signal ends a wait at once instead of at its timeout.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from pika.adapters.utils.selector_ioloop_adapter import AbstractSelectorIOLoop

from turnwise.errors import Stopped

Handler = Callable[[int, int], None]

LONGEST_TURN = 1.0
"""Seconds. The loop turns at least this often during any wait, which shows that it is alive."""

ALIVE_WITHIN = 60.0
"""Seconds without a turn after which a loop counts as hung. The longest intended block, a call to a
hung database, ends within database.TIMEOUT."""


class Timer:
    """A callback that is due once, at ``deadline`` (seconds on the monotonic clock)."""

    __slots__ = ("callback", "deadline")

    def __init__(self, deadline: float, callback: Callable[[], Any]) -> None:
        self.deadline = deadline
        self.callback: Callable[[], Any] | None = callback

    def cancel(self) -> None:
        """Cancel the callback."""
        self.callback = None


class Loop(AbstractSelectorIOLoop):
    """An I/O loop for one thread. Only ``add_callback`` may be called from another one."""

    # poll() rather than epoll: changing the events to watch, which pika does twice for each write,
    # costs no system call, and standard input may be a plain file.
    READ = select.POLLIN
    WRITE = select.POLLOUT
    ERROR = select.POLLERR

    def __init__(self) -> None:
        self.asked = False
        """Whether a signal has asked to stop."""
        self.stopping = False
        """Whether the grace period has ended as well, which ends every sleep."""
        self._stop_at = math.inf
        self._end = math.inf
        self._signals: dict[signal.Signals, Callable[[int, Any], None]] = {}
        self._turned = time.monotonic()
        self._poll = select.poll()
        self._handlers: dict[int, Handler] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._callbacks: deque[Callable[..., Any]] = deque()
        self._before_wait: deque[Callable[[], object]] = deque()
        self._woken, self._wake = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        self.add_handler(self._woken.fileno(), self._drain_wake, self.READ)

    # -- for the program

    def turn(self, timeout: float) -> None:
        """Wait at most ``timeout`` seconds or LONGEST_TURN, and run everything that is due."""
        while self._before_wait:
            self._before_wait.popleft()()
        self._turned = time.monotonic()
        if self._callbacks:
            timeout = 0
        elif self._timers:
            timeout = min(timeout, LONGEST_TURN, max(0, self._timers[0][0] - self._turned))
        else:
            timeout = min(timeout, LONGEST_TURN)
        if self.asked and not self.stopping:
            timeout = min(timeout, max(0, self._stop_at - self._turned))
        # poll() counts in milliseconds: round up, or the loop would spin through the last one.
        for fd, events in self._poll.poll(-(-timeout * 1000 // 1)):
            # An earlier handler in this turn may have removed this one.
            if handler := self._handlers.get(fd):
                handler(fd, events)
        for _ in range(len(self._callbacks)):
            self._callbacks.popleft()()
        if self._timers and self._timers[0][0] <= time.monotonic():
            self._run_timers()
        if self.asked and not self.stopping:
            self.stopping = time.monotonic() >= self._stop_at

    @property
    def silence(self) -> float:
        """Seconds since the last turn began. Read by other threads too."""
        return time.monotonic() - self._turned

    def before_wait(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` once, at the start of the next turn."""
        self._before_wait.append(callback)

    def wait(self, condition: Callable[[], object], timeout: float) -> bool:
        """Turn until the condition holds; return False if it does not within ``timeout`` seconds.

        Never waits beyond the grace period of a process that was asked to stop.
        """
        deadline = time.monotonic() + timeout
        while not condition():
            remaining = min(deadline, self._end) - time.monotonic()
            if remaining <= 0:
                return False
            self.turn(remaining)
        return True

    def sleep(self, seconds: float) -> None:
        """Sleep while serving the loop. Raises Stopped if asked to stop."""
        self.wait(lambda: self.stopping, seconds)
        if self.stopping:
            raise Stopped

    @contextlib.contextmanager
    def signals(self, *numbers: signal.Signals, grace: float = 0.0) -> Iterator[None]:
        """Handle signals: the first of them asks the loop to stop, the second kills the process.

        ``grace`` is the time in seconds for all that is left to do after the first. With a grace
        of 0, the process itself bounds what it waits for after that.
        """

        def stop(_number: int, _frame: object) -> None:
            # Only set flags here: the signal may have interrupted any code. The byte that Python
            # writes to the wake-up socket ends the wait.
            self.ask_to_stop(grace)
            for number in numbers:
                signal.signal(number, signal.SIG_DFL)

        wakeup = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        previous = {number: signal.signal(number, stop) for number in numbers}
        self._signals = dict.fromkeys(numbers, stop)
        try:
            yield
        finally:
            self._signals = {}
            signal.set_wakeup_fd(wakeup)
            for number, handler in previous.items():
                signal.signal(number, handler)

    def keep_signals(self) -> None:
        """Restore the signal handlers if user code has replaced them. For the main thread only."""
        for number, stop in self._signals.items():
            if signal.getsignal(number) is not stop and not self.asked:
                signal.signal(number, stop)
                signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)

    def ask_to_stop(self, grace: float = 0.0) -> None:
        """Ask to stop, as a signal does. A second call does not extend the grace period."""
        if self.asked:
            return
        self._stop_at = time.monotonic() + grace
        if grace:
            self._end = self._stop_at
        else:
            self.stopping = True
        self.asked = True

    def close(self) -> None:
        """Close the loop's own sockets."""
        self._poll.unregister(self._woken.fileno())
        self._woken.close()
        self._wake.close()

    # -- for pika

    def call_later(self, delay: float, callback: Callable[..., Any]) -> Timer:
        """Call ``callback`` once, after ``delay`` seconds."""
        timer = Timer(time.monotonic() + delay, callback)
        heapq.heappush(self._timers, (timer.deadline, next(self._order), timer))
        return timer

    def remove_timeout(self, timeout_handle: Timer) -> None:
        """Cancel a timer."""
        timeout_handle.cancel()

    def add_callback(self, callback: Callable[..., Any]) -> None:
        """Call ``callback`` in the next turn. May be called from any thread."""
        self._callbacks.append(callback)
        with contextlib.suppress(BlockingIOError):  # full of wake-ups already
            self._wake.send(b"\0")

    def add_handler(self, fd: int, handler: Handler, events: int) -> None:
        """Watch a file descriptor."""
        self._handlers[fd] = handler
        self._poll.register(fd, events)

    def intercept(self, fd: int, wrap: Callable[[Handler], Handler]) -> None:
        """Replace the handler of a file descriptor by ``wrap(handler)``. Not for pika itself."""
        self._handlers[fd] = wrap(self._handlers[fd])

    def update_handler(self, fd: int, events: int) -> None:
        """Change the events to watch for."""
        self._poll.modify(fd, events)

    def remove_handler(self, fd: int) -> None:
        """Stop watching it."""
        del self._handlers[fd]
        self._poll.unregister(fd)

    def start(self) -> None:
        """Not supported: this loop is driven a turn at a time."""
        raise NotImplementedError

    stop = start

    # -- internals

    def _drain_wake(self, _fd: int, _events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._woken.recv(4096):
                pass

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if timer.callback is not None:
                timer.callback()
