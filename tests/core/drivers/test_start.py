"""Starting programs: what they get, where they write, and how a failed start is told."""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lictor.core.drivers.process import ProcessDriver
from lictor.core.errors import StartFailed
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import LogSpec, StopSpec
from lictor.core.model.state import Exit
from tests.support.children import alive, child, eventually, free_port, marked, open_fds, text_of

ROOT = os.geteuid() == 0
QUICK = StopSpec(timeout=1)


def test_the_log_of_an_instance_is_named_after_it(driver, spec, tmp_path):
    one = spec((), key=ServiceKey("piper", "a"))
    assert driver.log_path(one) == tmp_path / "logs" / "piper@a.log"
    assert driver.kind == "process"


async def test_a_child_gets_its_environment_and_nothing_else(driver, spec, agent_id, monkeypatch):
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "secret")
    one = spec(child("whoami"), env={"PATH": "/usr/bin:/bin", "A": "1"}, umask=0o027)
    running = await driver.start(one)
    await eventually(lambda: "end" in text_of(driver.log_path(one)))
    said = text_of(driver.log_path(one)).splitlines()
    env = dict(line[4:].split("=", 1) for line in said if line.startswith("env "))
    run = env.pop("LICTOR_RUN")
    assert 0 <= running.identity.start_time - int(run) <= 50
    env.pop("LC_CTYPE", None)  # Python itself sets it in the C locale
    assert env == {
        "PATH": "/usr/bin:/bin",
        "A": "1",
        "LICTOR_MARK": f"{agent_id}:piper",
        "LICTOR_AGENT": agent_id,
        "LICTOR_SERVICE": "piper",
    }
    assert any(f"cwd={one.cwd} umask=27 sid=True" in line for line in said)
    # 0, 1, 2, and the folder that is being listed.
    assert sum(line.startswith("fd ") for line in said) <= 4
    await running.stop(QUICK)


async def test_a_node_name_reaches_the_child(spec, agent_id, tmp_path):
    driver = ProcessDriver(tmp_path, agent_id, node="host1")
    one = spec(("env",))
    running = await driver.start(one)
    await running.wait()
    assert "LICTOR_NODE=host1\n" in text_of(driver.log_path(one))
    driver.close()


async def test_the_marks_cannot_be_overridden_by_a_config(driver, spec, agent_id):
    one = spec(("env",), env={"PATH": "/usr/bin:/bin", "LICTOR_MARK": "mine", "LICTOR_RUN": "x"})
    await (await driver.start(one)).wait()
    assert f"LICTOR_MARK={agent_id}:piper\n" in text_of(driver.log_path(one))
    assert "mine" not in text_of(driver.log_path(one))


async def test_output_and_errors_go_to_one_log_that_others_cannot_read(driver, spec):
    one = spec(("sh", "-c", "echo out; echo err >&2; cat"))
    assert await (await driver.start(one)).wait() == Exit(code=0)
    await (await driver.start(one)).wait()
    path = driver.log_path(one)
    assert text_of(path) == "out\nerr\n" * 2
    assert stat.S_IMODE(path.stat().st_mode) & 0o037 == 0


async def test_every_way_to_end_is_told_apart(driver, spec):
    async def end(*argv: str) -> Exit:
        return await (await driver.start(spec(argv))).wait()

    assert await end("true") == Exit(code=0)
    assert await end("sh", "-c", "exit 3") == Exit(code=3)
    assert await end("sh", "-c", "kill -SEGV $$") == Exit(signal=11)


async def test_an_end_is_noticed_under_uvloop_too(tmp_path, spec, agent_id):
    uvloop = pytest.importorskip("uvloop")

    async def scenario() -> tuple[Exit, bool]:
        driver = ProcessDriver(tmp_path, agent_id)
        ended = await (await driver.start(spec(("sh", "-c", "exit 4")))).wait()
        stopped = await (await driver.start(spec(("sleep", "60")))).stop(QUICK)
        driver.close()
        return ended, stopped.killed

    def run() -> tuple[Exit, bool]:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(scenario())

    assert await asyncio.to_thread(run) == (Exit(code=4), False)


async def failure(driver: ProcessDriver, one) -> StartFailed:
    fds = open_fds()
    with pytest.raises(StartFailed) as caught:
        await driver.start(one)
    assert open_fds() == fds
    return caught.value


async def test_a_missing_program_is_named(driver, spec):
    error = await failure(driver, spec(("no-such-program", "x")))
    assert error.reason_code == "start.program_missing"
    assert error.params == {"program": "no-such-program"}


async def test_a_program_is_looked_for_in_the_childs_own_path(driver, spec, tmp_path):
    tool = tmp_path / "bin" / "tool"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\nexit 5\n")
    tool.chmod(0o755)
    assert (await failure(driver, spec(("tool",)))).reason_code == "start.program_missing"
    for one in (spec(("tool",), env={"PATH": str(tool.parent)}), spec(("bin/tool",))):
        assert await (await driver.start(one)).wait() == Exit(code=5)


async def test_a_folder_of_the_path_that_may_not_be_entered_hides_nothing(spec, tmp_path):
    """Runs as another user where it can: root enters every folder."""
    (tmp_path / "shut").mkdir(mode=0o000)
    env = {"PATH": f"{tmp_path / 'shut'}:/usr/bin:/bin"}
    as_user = {"user": "nobody"} if ROOT else {}
    driver = ProcessDriver(tmp_path / "logs", "path-agent")
    one = spec(("no-such-program",), env=env, cwd="/", **as_user)
    assert (await failure(driver, one)).reason_code == "start.program_missing"
    assert await (await driver.start(spec(("true",), env=env, cwd="/", **as_user))).wait() == Exit(
        code=0
    )
    driver.close()


async def test_a_file_without_the_right_to_execute_is_told(driver, spec, tmp_path):
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\n")
    error = await failure(driver, spec(("./tool",)))
    assert (error.reason_code, error.params) == ("start.not_executable", {"program": str(tool)})


async def test_a_missing_interpreter_is_not_called_a_missing_program(driver, spec, tmp_path):
    tool = tmp_path / "tool"
    tool.write_text("#!/opt/none/python3 -u\n")
    tool.chmod(0o755)
    error = await failure(driver, spec((str(tool),)))
    assert error.reason_code == "start.bad_interpreter"
    assert error.params == {"program": str(tool), "interpreter": "/opt/none/python3"}


async def test_a_file_that_is_no_program_gets_the_kernels_own_words(driver, spec, tmp_path):
    tool = tmp_path / "tool"
    tool.write_text("hello")
    tool.chmod(0o755)
    error = await failure(driver, spec((str(tool),)))
    assert (error.reason_code, error.params) == ("start.os_error", {"error": "Exec format error"})


async def test_an_argument_with_a_nul_is_refused(driver, spec):
    assert (await failure(driver, spec(("echo", "a\0b")))).reason_code == "start.os_error"


async def test_an_empty_command_is_refused(driver, spec):
    assert (await failure(driver, spec(()))).reason_code == "start.program_missing"


async def test_a_missing_folder_is_not_called_a_missing_program(driver, spec, tmp_path):
    gone = str(tmp_path / "gone")
    error = await failure(driver, spec(("true",), cwd=gone))
    assert (error.reason_code, error.params) == ("start.cwd_missing", {"cwd": gone})


async def test_unknown_users_and_groups_are_named(driver, spec):
    error = await failure(driver, spec(("true",), user="nobody-here"))
    assert (error.reason_code, error.params) == ("start.user_unknown", {"user": "nobody-here"})
    error = await failure(driver, spec(("true",), group="nogroup-here"))
    assert (error.reason_code, error.params) == ("start.group_unknown", {"group": "nogroup-here"})


@pytest.mark.skipif(ROOT, reason="root may be anybody")
async def test_another_user_needs_root(driver, spec):
    error = await failure(driver, spec(("true",), user="root"))
    assert (error.reason_code, error.params) == ("start.not_permitted", {"user": "root"})


@pytest.mark.skipif(not ROOT, reason="only root can change users")
async def test_a_service_runs_as_its_user_with_its_groups_and_home(spec, agent_id, tmp_path):
    nobody = pwd.getpwnam("nobody")
    driver = ProcessDriver(tmp_path / "logs", agent_id)
    script = "id -u; id -g; id -G; echo $HOME $USER; echo $LOGNAME"
    env = {"PATH": "/usr/bin:/bin", "HOME": os.environ.get("HOME", "/root"), "LOGNAME": "kept"}
    one = spec(("sh", "-c", script), user="nobody", env=env, cwd="/")
    assert await (await driver.start(one)).wait() == Exit(code=0)
    said = text_of(driver.log_path(one)).split("\n")
    groups = " ".join(str(gid) for gid in os.getgrouplist("nobody", nobody.pw_gid))
    assert said[:3] == [str(nobody.pw_uid), str(nobody.pw_gid), groups]
    assert said[3:5] == [f"{nobody.pw_dir} nobody", "kept"]
    driver.close()


@pytest.mark.skipif(not ROOT, reason="only root can change users")
async def test_a_service_of_another_user_is_stopped_like_any_other(driver, spec, agent_id):
    running = await driver.start(spec(("sleep", "60"), user="nobody", cwd="/"))
    folder, nobody = Path(f"/proc/{running.identity.pid}"), pwd.getpwnam("nobody").pw_uid
    # (root's until the kernel is done with the exec)
    await eventually(lambda: folder.stat().st_uid == nobody)
    assert (await running.stop(QUICK)).exit == Exit(signal=15)
    assert marked(agent_id) == []


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
async def test_a_log_that_is_no_plain_file_is_refused(driver, spec, tmp_path, kind):
    one = spec(("true",))
    path = driver.log_path(one)
    path.parent.mkdir()
    target = tmp_path / "target"
    if kind == "link":
        path.symlink_to(target)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    error = await asyncio.wait_for(failure(driver, one), 10)
    assert error.reason_code == "start.log_unwritable"
    assert error.params["path"] == str(path)
    assert not target.exists()


async def test_a_log_folder_that_cannot_be_made_is_told(spec, agent_id, tmp_path):
    (tmp_path / "file").write_text("")
    driver = ProcessDriver(tmp_path / "file" / "logs", agent_id)
    error = await failure(driver, spec(("true",)))
    assert error.reason_code == "start.log_unwritable"
    assert error.params["error"] == "Not a directory"


async def test_every_run_appends_to_the_same_log_however_large_it_is(driver, spec):
    """Rotation is the runtime's, at any time; a log is never renamed from under a writer."""
    one = spec(("echo", "x" * 200), log=LogSpec(max_size=100, keep=2))
    for _ in range(3):
        await (await driver.start(one)).wait()
    path = driver.log_path(one)
    assert text_of(path) == ("x" * 200 + "\n") * 3
    assert [item.name for item in path.parent.iterdir()] == ["piper.log"]


async def test_a_job_runs_to_its_end_in_the_services_log(driver, spec, agent_id):
    one = spec(("true",))
    assert await driver.run_job(one, ("sh", "-c", "echo job $LICTOR_JOB; exit 6")) == Exit(code=6)
    assert text_of(driver.log_path(one)) == "job 1\n"
    assert marked(agent_id) == []


async def test_a_cancelled_job_leaves_no_process(driver, spec, agent_id, tmp_path):
    said = tmp_path / "said"
    one = spec(("true",), stop=StopSpec(timeout=0.3))
    argv = child("grandchildren", count=2, file=said)
    job = asyncio.create_task(driver.run_job(one, argv))
    await eventually(lambda: len(text_of(said).split()) == 4)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert marked(agent_id) == []


async def test_a_job_leaves_nothing_in_the_background(driver, spec, agent_id, tmp_path):
    one = spec(("true",), stop=StopSpec(timeout=0.3))
    argv = child("escape-group", port=free_port(), file=tmp_path / "said")
    job = asyncio.create_task(driver.run_job(one, argv))
    await eventually(lambda: text_of(tmp_path / "said"))
    inner = int(text_of(tmp_path / "said"))
    (main,) = set(marked(agent_id)) - {inner}
    os.kill(main, 9)
    assert await job == Exit(signal=9)
    assert not alive(inner)


async def test_a_job_that_cannot_be_started_says_why(driver, spec):
    with pytest.raises(StartFailed) as caught:
        await driver.run_job(spec(("true",)), ("no-such-job",))
    assert caught.value.params == {"program": "no-such-job"}


async def test_a_service_that_fails_first_can_be_started_again(driver, spec, tmp_path):
    one = spec(child("fail-first", count=1, file=tmp_path / "runs"))
    assert await (await driver.start(one)).wait() == Exit(code=1)
    running = await driver.start(one)
    await eventually(lambda: "ready" in text_of(driver.log_path(one)))
    assert running.exit is None
    await running.stop(QUICK)


async def test_a_flood_of_output_goes_on_when_the_agent_lets_go(spec, agent_id, tmp_path):
    driver = ProcessDriver(tmp_path / "logs", agent_id)
    said = tmp_path / "said"
    one = spec(child("flood-stdout", count=30, file=said))
    await driver.start(one)
    driver.close()
    await eventually(lambda: text_of(said), within=60)
    assert driver.log_path(one).stat().st_size == 30 << 20


def test_nothing_is_logged_into_the_current_folder(tmp_path, agent_id):
    ProcessDriver(tmp_path / "logs", agent_id)
    assert not Path("logs").exists()
    assert not (tmp_path / "logs").exists()


def test_signals_that_a_shell_left_ignored_are_not_passed_on_to_services():
    program = (
        "import signal, subprocess, sys\n"
        "signal.signal(signal.SIGQUIT, signal.SIG_IGN)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n"
        "from lictor.core.drivers.spawn import default_signals\n"
        "default_signals()\n"
        "subprocess.run(['grep', '-E', '^Sig(Blk|Ign)', '/proc/self/status'], check=True)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    masks = {line.split(":")[0]: int(line.split(":")[1], 16) for line in said.splitlines()}
    assert masks["SigBlk"] == 0
    assert not masks["SigIgn"] & (1 << (signal.SIGQUIT - 1))
