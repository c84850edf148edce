"""Why a process may not be read: each obstacle alone, and the command that removes it."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest

from ftdiag.sources.kernel import permissions
from ftdiag.sources.kernel.permissions import CAP_SYS_PTRACE, Credentials, Situation, Verdict, explain

USER = Credentials((1000,) * 4, (1000,) * 4, permitted=0, effective=0, bounding=(1 << 41) - 1, seccomp=0)
ALL = (1 << 41) - 1
ROOT = Credentials((0,) * 4, (0,) * 4, permitted=ALL, effective=ALL, bounding=ALL, seccomp=0)
NO_PTRACE = ALL & ~(1 << CAP_SYS_PTRACE)

# One of our own processes, on a machine where nothing is in the way.
OURS = Situation(
    pid=4711,
    own=USER,
    target=USER,
    owner_uid=1000,
    own_call_refused=False,
    same_user_namespace=True,
    yama_scope=0,
    descendant=False,
    container=None,
    selinux_denies=False,
)


@pytest.mark.parametrize(
    ("changes", "sentence", "remedy"),
    [
        pytest.param(
            {"own_call_refused": True, "own": replace(USER, seccomp=2)},
            "a seccomp filter blocks process_vm_readv",
            "--security-opt seccomp=unconfined",
            id="seccomp",
        ),
        pytest.param(
            {"target": ROOT, "owner_uid": 0},
            "it belongs to user root (0), we are user",
            'sudo "$(command -v ftdiag)" attach 4711',
            id="another user",
        ),
        pytest.param(
            {
                "own": replace(ROOT, permitted=NO_PTRACE, effective=NO_PTRACE, bounding=NO_PTRACE),
                "container": "docker",
            },
            "without CAP_SYS_PTRACE",
            "docker run --cap-add SYS_PTRACE",
            id="root of a container, another user",
        ),
        pytest.param(
            {
                "own": replace(ROOT, permitted=NO_PTRACE, effective=NO_PTRACE, bounding=NO_PTRACE),
                "target": ROOT,
                "owner_uid": 0,
            },
            "it has capabilities that we do not have (cap_sys_ptrace)",
            "from a root shell that has CAP_SYS_PTRACE",
            id="root without the capability",
        ),
        pytest.param(
            {"own": ROOT, "same_user_namespace": False},
            "another user namespace",
            "on the host",
            id="root of a user namespace",
        ),
        pytest.param(
            {"target": replace(USER, gids=(1000, 50, 50, 50))},
            "other group ids",
            "sudo",
            id="setgid program",
        ),
        pytest.param({"owner_uid": 0}, "not dumpable", "sudo", id="not dumpable"),
        pytest.param(
            {
                "own": replace(ROOT, permitted=NO_PTRACE, effective=NO_PTRACE, bounding=NO_PTRACE),
                "target": replace(ROOT, permitted=NO_PTRACE, effective=NO_PTRACE),
                "owner_uid": 0,
            },
            "probably not dumpable",
            "CAP_SYS_PTRACE",
            id="root's, not dumpable, and root without the capability",
        ),
        pytest.param(
            {"yama_scope": 1},
            "kernel.yama.ptrace_scope is 1, only a parent may",
            "sudo sysctl kernel.yama.ptrace_scope=0",
            id="yama 1",
        ),
        pytest.param({"yama_scope": 2}, "ptrace_scope is 2", "sudo", id="yama 2"),
        pytest.param(
            {"yama_scope": 3, "own": ROOT, "target": ROOT, "owner_uid": 0},
            "forbids it for everybody until the next boot",
            "grep -r ptrace_scope",
            id="yama 3 stops root too",
        ),
        pytest.param({"selinux_denies": True}, "deny_ptrace", "setsebool deny_ptrace off", id="selinux"),
        pytest.param({}, "another security module", "dmesg", id="nothing we know of"),
        pytest.param(
            {"yama_scope": 1, "descendant": True},
            "another security module",
            "dmesg",
            id="yama 1 lets a parent read",
        ),
    ],
)
def test_obstacle(changes: dict[str, Any], sentence: str, remedy: str) -> None:
    # GIVEN a machine with this one obstacle
    reason = explain(replace(OURS, **changes))

    # THEN it is named, with what removes it
    assert sentence in reason.sentence
    assert remedy in reason.remedy


def test_the_kernel_order_decides_between_several_obstacles() -> None:
    # GIVEN another user's process under a Yama that would refuse it too
    reason = explain(replace(OURS, target=ROOT, owner_uid=0, yama_scope=1))

    # THEN what is asked first is named: changing Yama alone would not help
    assert "belongs to user root" in reason.sentence


def test_our_own_process_may_be_read() -> None:
    checks = {check.name: check for check in permissions.check_target(os.getpid())}

    assert checks["process"].verdict is Verdict.OK
    assert checks["memory"].verdict is Verdict.OK
    assert checks["system calls"].verdict is Verdict.OK


def test_no_such_process_is_one_missing_check() -> None:
    (check,) = permissions.check_target(4_194_304)

    assert check.verdict is Verdict.MISSING
    assert check.sentence == "there is no process 4194304"


def test_a_process_that_exists_for_kill_alone_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a /proc that does not show what kill(2) knows (hidepid=2)
    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)

    assert permissions.is_hidden(4_194_304)
    (check,) = permissions.check_target(4_194_304)
    assert "/proc hides the processes of other users" in check.sentence
    assert check.remedy is not None
    assert check.remedy.startswith("sudo")


def test_every_gap_of_this_machine_has_a_remedy() -> None:
    for check in permissions.check_machine():
        assert check.verdict is Verdict.OK or check.remedy, check
