"""System calls of a login made to fail, one at a time or all from one on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.faults.inside import host, trace
from tests.faults.inside.holder import Engine, Holder, verdict
from tests.faults.inside.log import Log

if TYPE_CHECKING:
    from collections.abc import Iterator

    Result = dict[str, object]

ERRORS = ("ENOSPC", "EDQUOT", "EIO", "EROFS", "EMFILE", "ENOMEM")
# How a transaction ends in which Python does not even start: with the code of pam_python's own look-up, or with the
# whole process, whose exit status looks like PAM_OPEN_ERR here. No hook of ours returns either.
NO_MODULE_DATA, ENDED_BY_PYTHON = 18, 1
# Where the log line itself is what fails, it cannot be there.
LOGGING = {"socket", "connect", "sendto", "getpid"}


def login(held: bool, every: int, shift: int, everything: bool, changing: bool = True) -> Result:
    """A right code while calls fail: accepted only with a charge, otherwise denied and logged; never asked for none.

    `held`: from the answer on, else the whole transaction with the start of the interpreter. Of the calls that change
    nothing (without `changing`, of all calls) each `every`-th is taken; each call fails with one error in turn, from
    `shift` on, or with `everything` with each of them, once alone and once from there on.
    """
    secret = host.enrolled("alice")
    kept = host.keep()
    problems: list[str] = []
    seen: dict[str, int] = {}
    with Log() as log, Holder("alice", hold=held) as holder:
        start = holder.stopped if held else lambda answer: holder.start(answer, "stop")
        calls = trace.calls(start(host.code(secret, host.step_now())), holder.wait)
        cases = list(_cases(trace.chosen(calls, every) if changing else calls[every // 2 :: every], shift, everything))
        for call, error, onwards in cases:
            host.put_back(kept)
            log.lines()
            step = host.step_now()
            pid = start(host.code(secret, step))
            ended: list[int] = []
            what = f"{call[0]}:error={error}:when={call[1]}{'+' if onwards else ''}"
            trace.inject(pid, what, lambda ended=ended: ended.append(holder.wait()[1]))  # type: ignore[misc]  # its default
            logged = bool(log.lines())
            seen[verdict(ended[0])] = seen.get(verdict(ended[0]), 0) + 1
            problems += [f"{what}: {verdict(ended[0])}: {each}" for each in _wrong(secret, step, ended[0])]
            # A transaction that can open nothing at all any more finds neither the module nor the log's code; and
            # pam_python, which fails before it has loaded the module, denies and does not always say why.
            reached = (held or not onwards) and ended[0] not in (NO_MODULE_DATA, ENDED_BY_PYTHON)
            if ended[0] > 0 and not logged and call[0] not in LOGGING and reached:
                problems.append(f"{what}: {verdict(ended[0])} is not logged")
    return {"calls": len(calls), "cases": len(cases), "seen": seen, "problems": problems}


def _cases(calls: list[trace.Call], shift: int, everything: bool) -> Iterator[tuple[trace.Call, str, bool]]:
    for number, call in enumerate(calls):
        if everything:
            yield from ((call, error, onwards) for error in ERRORS for onwards in (False, True))
        else:
            yield call, ERRORS[(number + shift) % len(ERRORS)], number % 2 == 0


def _wrong(secret: bytes, step: int, ended: int) -> list[str]:
    view = host.View("alice")
    if view.damage or len(view.active) != 1:
        return [str(view)]
    spent = view.marks[view.active[0]] >= step
    problems = []
    if ended == host.SUCCESS and not spent:
        problems.append("let in without a charge")
    # Our engine's helper reads the answer from its connection: where that fails, it has none.
    if ended == host.IGNORE or (ended == host.CONV_ERR and not Engine.apart()):
        problems.append("neither accepted nor denied")
    if host.let_in(host.attempt("alice", host.code(secret, step))) is spent:
        problems.append(f"spent is {spent}, but the code again says otherwise")
    return problems + host.works("alice", secret)
