"""Run calls in worker processes, on this machine or on a Dask cluster."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import connection, get_all_start_methods, get_context, parent_process, util
from multiprocessing.context import BaseContext
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from ssmbook.errors import InputError
from ssmbook.lazy import PLUGINS

if TYPE_CHECKING:
    from distributed import Client


def is_first() -> bool:
    """Whether this process is the first, or the only one, of those that train together; their launcher numbers them."""
    numbers = (os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
    return next((number for number in numbers if number is not None), "0") == "0"


def usable_cores() -> int:
    """Cores that this process may use: fewer than the machine has under a scheduler or in a container."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_preloaded: set[str] = set()


def preload(module: str) -> None:
    """Let worker processes begin with a module; to be called before the first of them is started."""
    _preloaded.add(module)


def worker_context(module: str) -> BaseContext:
    """How worker processes are started: forked from one that does nothing but import what they need.

    Its forks are as safe as new processes (HDF5 and thread pools, in use, do not survive a fork), start in no time, and
    share the memory of what is imported. There is one for the life of this process, with what was asked for by its
    first use; workers import what else they need themselves.

    Args:
        module: that they need.
    """
    preload(module)
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    found = get_context("forkserver")
    found.set_forkserver_preload(sorted(_preloaded))
    return found


def end_with_starter(_: object = None) -> None:
    """Let this worker process end when the one that started it has ended, however that was.

    Its parent, which only imports, lives as long as any of its forks does: who asks for the parent waits for ever.
    """
    starter = parent_process()
    if starter is not None:
        threading.Thread(target=lambda: (starter.join(), os._exit(1)), daemon=True).start()


class _NoneBegins(Exception):
    """A worker process ended before its first call."""


class ProcessEnded(Exception):
    """The worker process ended before its call did."""


def run_calls(
    call: Callable[..., Any], arguments: Sequence[tuple], workers: int, client: Client | None
) -> Iterator[tuple[int, Any]]:
    """``call(*arguments[i])`` for each i, in any order and place.

    Args:
        call: a function of a module; what it is given and returns must pickle.
        workers: processes of this machine; with 1 the calls are made here, one after another.
        client: of a Dask cluster, which makes them instead.

    Yields:
        i and the result as each call ends; in its place the exception where its process ended with it, or where it
            raised one in another process. What it raises here is raised.

    Raises:
        InputError: no worker begins, as when a script calls this without ``if __name__ == "__main__":``.
    """
    if client is not None:
        yield from _on_cluster(call, arguments, client)
    elif workers == 1 or len(arguments) < 2:
        yield from ((i, call(*each)) for i, each in enumerate(arguments))
    else:
        yield from _on_this_machine(call, arguments, min(workers, len(arguments)))


def _on_this_machine(
    call: Callable[..., Any], arguments: Sequence[tuple], workers: int
) -> Iterator[tuple[int, Any]]:
    started = worker_context(call.__module__)
    theirs, ours = started.Pipe(duplex=False)
    # One pool per worker, so that a killed worker fails only its current call.
    idle: SimpleQueue[ProcessPoolExecutor] = SimpleQueue()
    pools: list[ProcessPoolExecutor] = []

    def new_pool() -> ProcessPoolExecutor:
        pools.append(ProcessPoolExecutor(1, started, initializer=_end_with, initargs=(theirs,)))
        return pools[-1]

    begun: set[ProcessPoolExecutor] = set()

    def one(each: tuple) -> Any:
        pool = idle.get()
        try:
            if pool not in begun:
                pool.submit(int).result()
                begun.add(pool)
            return pool.submit(_called, call, each, os.environ.get(PLUGINS, "")).result()
        except BrokenProcessPool:
            if pool not in begun:
                raise _NoneBegins from None
            pool = new_pool()
            raise ProcessEnded(
                "its process ended; if it says nothing above, was there memory enough?"
            ) from None
        finally:
            idle.put(pool)

    for _ in range(workers):
        idle.put(new_pool())
    threads = ThreadPoolExecutor(workers)
    try:
        futures = {threads.submit(one, each): i for i, each in enumerate(arguments)}
        for future in as_completed(futures):
            if isinstance(future.exception(), _NoneBegins):
                raise InputError(
                    "worker processes end as they begin, see above; in a script, put what it does under "
                    'if __name__ == "__main__":'
                )
            yield futures[future], future.exception() or future.result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        ours.close()
        for pool in pools:
            pool.shutdown(wait=True, cancel_futures=True)
        theirs.close()


def _called(call: Callable[..., Any], each: tuple, plugins: str) -> Any:
    os.environ[PLUGINS] = plugins  # a worker's environment is that of the first use of workers
    try:
        return call(*each)
    finally:
        # Imports have made named semaphores, which nobody would remove at the end; they work without their names.
        util._run_finalizers(0)  # type: ignore[attr-defined]


def _end_with(pipe: connection.Connection) -> None:
    """End this process when the other end of a pipe closes: with the run, or with the process that started it.

    It ends at once, in the middle of a call; an orderly exit would spend a third of a second on numba.
    """

    def wait() -> None:
        connection.wait([pipe])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _on_cluster(
    call: Callable[..., Any], arguments: Sequence[tuple], client: Client
) -> Iterator[tuple[int, Any]]:
    from distributed import as_completed

    # Not pure: a call that was made in another run is made again.
    futures = [client.submit(call, *each, pure=False) for each in arguments]
    numbers = {future.key: i for i, future in enumerate(futures)}
    try:
        for future in as_completed(futures):
            try:
                result = future.result()
            except (
                Exception
            ) as error:  # of the cluster: its workers ended again and again, or its scheduler did
                result = ProcessEnded(" ".join(str(error).split()))
            yield numbers[future.key], result
    finally:
        with suppress(Exception):  # a scheduler that is gone has nothing to cancel
            client.cancel(futures)


def connect(address: str, timeout_s: float = 10) -> Client:
    """A client of the Dask scheduler at an address as ``tcp://host:8786``, for a ``with`` block."""
    from distributed import Client

    try:
        return Client(address, timeout=timeout_s)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{address}: no Dask scheduler answers ({error}); give the address that it prints"
        ) from None
