"""A crash of native code, and signals to either of the two processes of a command: one sentence, and nothing is left."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import psutil
import pytest

pytest.importorskip("onnxruntime")
if sys.platform != "linux":
    pytest.skip("only Linux ends a child with its parent", allow_module_level=True)

from qdqgraph.traces import frames_of
from tests.support.models import build
from tests.support.paths import ROOT

MODEL = "g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) { a = Relu (x) y = t.conv4 (a, s1) v = t.conv4 (a, s2) }"
DEADLY = """g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v, float[1,4] n) {
    a = Relu (x) y = t.conv4 (a, s1) v = t.conv4 (a, s2) n = RandomUniform <high = -1.0, shape = [1, 4]> () }"""
"""The numbers to draw from are from 0 to -1: ONNX Runtime 1.32 aborts when it runs the model."""
RULE = '''
import os, signal, time
from pathlib import Path
from qdqgraph.rulekit import Counterexample, Example, Rule, Safety, Severity


class Ends(Rule):
    """Something happens.

    Why: a test needs it.
    Source: this test.
    """

    code, name, safety, severity = "MY301", "ends", Safety.MANUAL, Severity.WARNING
    examples = [kind("it", "g (float[1] x) => (float[1] y) {{ y = Relu (x) }}") for kind in (Example, Counterexample)]

    def find(self, graph):
        {event}
        return iter(())
'''
WAIT = "Path('waits').touch(); time.sleep(60)"
AT_THE_CHECK = """
import ctypes, os, signal, time
from pathlib import Path
import onnx
def check(path):
    {event}
onnx.checker.check_model = check
from qdqgraph.cli import entry
entry()
"""
"""Something happens when the files are written, and have no names yet."""
FIX = ("fix", "model.onnx", "-o", "out.onnx", "--plan", "plan.json", "--no-config")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    onnx.save(build(MODEL), tmp_path / "model.onnx")
    (tmp_path / "tmp").mkdir()
    return tmp_path


def environment(folder: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "tmp"), "OMP_NUM_THREADS": "1", **more}


def no_core() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run(folder: Path, *words: str, code: str | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs the command, after other code if there is some."""
    start = ["-m", "qdqgraph"] if code is None else ["-c", code]
    return subprocess.run(
        [sys.executable, *start, *words],
        cwd=folder,
        env=environment(folder, **more),
        capture_output=True,
        text=True,
        timeout=240,
        preexec_fn=no_core,
        check=False,
    )


def left(folder: Path) -> set[str]:
    """The files that a run created."""
    own = {
        "model.onnx",
        "__pycache__",
        "tmp",
        "waits",
        "my_rule.py",
        ".ses",
    }  # ONNX Runtime has the last one for itself
    return {path.name for place in (folder, folder / "tmp") for path in place.iterdir()} - own


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """The only sentence of ours on stderr, which is its last line."""
    lines = done.stderr.splitlines()
    assert [line for line in lines if line.startswith("qdqgraph: ")] == lines[-1:], done.stderr
    return lines[-1]


def until(happens: Callable[[], bool], seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def all_of(terminal: int) -> str:
    """What a terminal shows until its last process ends; closes it."""
    shown = b""
    with contextlib.suppress(OSError):
        while part := os.read(terminal, 1 << 16):
            shown += part
    os.close(terminal)
    return shown.decode()


def is_running(process: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    return False


@contextmanager
def waiting(folder: Path, **more: object) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Yields a command that waits within a rule, and the number of its child."""
    (folder / "my_rule.py").write_text(RULE.format(event=WAIT))
    command = [sys.executable, "-m", "qdqgraph", "check", "model.onnx", "--no-config", "--rules", "my_rule.py"]
    settings: dict[str, object] = {"cwd": folder, "env": environment(folder), "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **{**settings, **more}) as process:  # type: ignore[call-overload]
        assert until(lambda: (folder / "waits").exists() or process.poll() is not None) and process.poll() is None
        (child,) = psutil.Process(process.pid).children()
        try:
            yield process, child.pid
        finally:
            process.kill()
            assert until(lambda: not is_running(child.pid), 10)


def test_a_model_that_ends_onnx_runtime(folder: Path) -> None:
    onnx.save(build(DEADLY), folder / "model.onnx")
    code = "import onnxruntime as o, numpy as n; o.InferenceSession('model.onnx').run(None, {'x': n.ones((1, 4, 8, 8), 'f')})"
    alone = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, preexec_fn=no_core, check=False
    )
    if alone.returncode != -signal.SIGABRT:
        pytest.skip("this version of ONNX Runtime does not end")
    done = run(folder, *FIX)
    start = (
        "qdqgraph: a crash in ONNX Runtime (SIGABRT) ended the process while comparing outputs in fix with model.onnx"
    )
    assert done.returncode == 3 and sentence(done).startswith(start) and "; please report it" in sentence(done)
    assert "nothing was written" in sentence(done) and left(folder) == set()


@pytest.mark.parametrize("name", ["SIGABRT", "SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL"])
def test_a_crash_in_code_of_the_user(name: str, folder: Path) -> None:
    (folder / "my_rule.py").write_text(RULE.format(event=f"os.kill(os.getpid(), signal.{name})"))
    done = run(folder, "check", "model.onnx", "--no-config", "--rules", "my_rule.py")
    line = RULE[: RULE.index("{event}")].count("\n") + 1
    assert done.returncode == 3
    assert sentence(done) == (
        f"qdqgraph: a crash in {folder}/my_rule.py:{line} ({name}) ended the process while running the rules "
        "in check with model.onnx; nothing was written; that is your code, or native code that it calls"
    )


def test_the_file_of_several(folder: Path) -> None:
    onnx.save(build(MODEL.replace("a = Relu", "deadly = Relu").replace("(a,", "(deadly,")), folder / "b.onnx")
    (folder / "my_rule.py").write_text(
        RULE.format(event="[os.abort() for node in graph.nodes('Relu') if node.outputs[0].name == 'deadly']")
    )
    done = run(folder, "check", "model.onnx", "b.onnx", "model.onnx", "--no-config", "--rules", "my_rule.py")
    assert done.returncode == 3 and "in check with b.onnx; nothing" in sentence(done)


@pytest.mark.parametrize("how", ["option", "variable", "python"])
def test_the_functions_that_ran_on_request(how: str, folder: Path) -> None:
    (folder / "my_rule.py").write_text(RULE.format(event="os.abort()"))
    words = ["check", "model.onnx", "--no-config", "--rules", "my_rule.py"]
    more = {"variable": {"QDQGRAPH_TRACEBACK": "1"}, "python": {"PYTHONFAULTHANDLER": "1"}}.get(how, {})
    done = run(folder, *words, *(["--traceback"] if how == "option" else []), **more)
    assert done.returncode == 3 and "Fatal Python error: Aborted" in done.stderr and "in find" in done.stderr


@pytest.mark.parametrize(
    ("event", "code", "said"),
    [
        ("os.abort()", 3, "SIGABRT"),
        ("ctypes.string_at(0)", 3, "SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137, "qdqgraph: killed (SIGKILL) in fix with model.onnx, plan.json; nothing was"),
        ("signal.signal(signal.SIGTERM, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGTERM)", 143, "terminated (SIGTERM)"),
        ("signal.alarm(1); time.sleep(60)", 142, "terminated (SIGALRM)"),
    ],
)  # fmt: skip
def test_an_end_while_files_are_written_leaves_none(event: str, code: int, said: str, folder: Path) -> None:
    done = run(folder, *FIX, code=AT_THE_CHECK.format(event=event))
    assert done.returncode == code and said in sentence(done) and "; nothing was written" in sentence(done)
    assert left(folder) == set()


def test_what_was_written_before_is_named(folder: Path) -> None:
    event = "Path('plan.json').write_text('another process wrote it'); os.abort()"
    done = run(folder, *FIX, code=AT_THE_CHECK.format(event=event))
    assert done.returncode == 3 and "; written so far: plan.json; " in sentence(done)


def test_temporary_folders_of_a_crashed_command_are_removed(folder: Path) -> None:
    code = "import os\nfrom qdqgraph.model.writing.folders import temporary_folder\n"
    code += "def check(args):\n with temporary_folder() as made:\n  (made / 'weights').touch()\n  os.abort()\n"
    code += "from qdqgraph.cli import entry, check as module\nmodule.check = check\nentry()"
    done = run(folder, "check", "model.onnx", code=code)
    assert done.returncode == 3 and left(folder) == set()


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
@pytest.mark.parametrize("who", ["first", "child", "both"])
def test_a_signal_to_either_process_or_both(name: str, code: int, who: str, folder: Path) -> None:
    with waiting(folder) as (process, child):
        for each in {"first": [process.pid], "child": [child], "both": [process.pid, child]}[who]:
            os.kill(each, getattr(signal, name))
        said = process.communicate(timeout=30)[1]
        word = "interrupted" if name == "SIGINT" else "terminated"
        assert (process.returncode, said) == (code, f"qdqgraph: {word}, nothing was written\n")
        assert not is_running(child)


def test_an_ignored_signal_stays_ignored(folder: Path) -> None:
    """nohup starts a command that ignores SIGHUP."""
    with waiting(folder, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as (process, child):
        for each in (process.pid, child):
            os.kill(each, signal.SIGHUP)
        time.sleep(0.3)
        assert process.poll() is None and is_running(child)


def test_a_caller_that_ignores_the_ends_of_its_children_gets_the_exit_code(folder: Path) -> None:
    start = "import signal, os, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    command = [
        sys.executable,
        "-c",
        start,
        sys.executable,
        "-m",
        "qdqgraph",
        "check",
        "model.onnx",
        "--no-config",
        "-q",
    ]
    done = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr == ""


def test_the_child_ends_when_the_first_process_is_killed(folder: Path) -> None:
    with waiting(folder) as (process, child):
        process.kill()
        process.wait()
        assert until(lambda: not is_running(child), 10)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_control_z_and_fg_and_control_c_in_a_shell(folder: Path) -> None:
    def of_the_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def all_are(stopped: bool) -> bool:
        return all(
            (psutil.Process(each).status() == psutil.STATUS_STOPPED) == stopped for each in (first.pid, child.pid)
        )

    ours, theirs = pty.openpty()
    (folder / "my_rule.py").write_text(RULE.format(event=WAIT))
    shell = ["bash", "--norc", "--noprofile", "-i"]
    with subprocess.Popen(
        shell,
        cwd=folder,
        env=environment(folder),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=of_the_terminal,
    ) as process:
        os.close(theirs)
        command = f"{sys.executable} -m qdqgraph check model.onnx --no-config --rules my_rule.py; echo $? > code\n"
        os.write(ours, command.encode())
        assert until((folder / "waits").exists)
        (first,) = psutil.Process(process.pid).children()
        (child,) = first.children()
        os.write(ours, b"\x1a")
        assert until(lambda: all_are(stopped=True), 10)
        assert until((folder / "code").exists, 10) and (folder / "code").read_text() == f"{128 + signal.SIGTSTP}\n"
        (folder / "code").unlink()
        os.write(ours, b"fg; echo $? > code\n")
        assert until(lambda: all_are(stopped=False), 10)
        os.write(ours, b"\x03")
        assert until(lambda: not is_running(first.pid) and not is_running(child.pid), 10)
        process.kill()
        shown = all_of(ours)
    assert shown.count("qdqgraph: interrupted, nothing was written") == 1


def test_a_terminal_gets_its_cursor_back(folder: Path) -> None:
    """Progress hides it."""
    (folder / "my_rule.py").write_text(RULE.format(event="time.sleep(0.5); os.abort()"))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "qdqgraph", "check", "model.onnx", "--no-config", "--rules", "my_rule.py"]
    terminal = environment(folder, TERM="xterm-256color")
    with subprocess.Popen(command, cwd=folder, env=terminal, stderr=theirs, preexec_fn=no_core) as process:
        os.close(theirs)
        shown = all_of(ours)
        assert process.wait(60) == 3
    _, hidden, after = shown.rpartition("\x1b[?25l")
    assert hidden and after.index("\x1b[?25h") < after.index("qdqgraph: a crash in ")


def test_a_crash_where_python_runs_no_function(folder: Path) -> None:
    """A thread of native code overflows its stack: faulthandler has no place for its own functions there."""
    code = "import faulthandler\nfrom qdqgraph.cli import entry, check as module\n"
    code += "module.check = lambda args: (faulthandler.disable(), os.abort())\nimport os\nentry()"
    done = run(folder, "check", "model.onnx", code=code)
    start = "qdqgraph: a crash (SIGABRT) ended the process in check with model.onnx; nothing was written; please report"
    assert done.returncode == 3 and sentence(done).startswith(start)


def test_a_stack_that_overflows(folder: Path) -> None:
    code = "import faulthandler\nfrom qdqgraph.cli import entry, check as module\n"
    code += "module.check = lambda args: faulthandler._stack_overflow()\nentry()"
    done = run(folder, "check", "model.onnx", code=code)
    assert done.returncode == 3 and "a crash in qdqgraph (SIGSEGV) ended" in sentence(done), done.stderr


def test_no_traces_can_be_kept(folder: Path) -> None:
    code = "import os\nfrom qdqgraph.cli import entry, check as module\n"
    code += "def fails(name):\n raise OSError(24, 'too many')\nos.memfd_create = fails\n"
    code += "module.check = lambda args: os.abort()\nentry()"
    done = run(folder, "check", "model.onnx", code=code)
    assert done.returncode == 3 and "a crash (SIGABRT) ended the process in check" in sentence(done)


def test_it_runs_in_one_process_where_no_second_one_can_be_created(folder: Path) -> None:
    code = "import os\nfrom qdqgraph.cli import entry\n"
    code += "def fork():\n raise BlockingIOError(11, 'no more processes')\nos.fork = fork\nentry()"
    done = run(folder, "check", "model.onnx", "--no-config", "-q", code=code)
    assert done.returncode == 1 and done.stdout and done.stderr == ""


def test_the_first_process_is_small(folder: Path) -> None:
    """It has loaded neither onnx nor numpy."""
    with waiting(folder) as (process, child):
        mapped = Path(f"/proc/{process.pid}/maps").read_text()
        assert not re.search("numpy|onnx|protobuf", mapped) and re.search(
            "onnx", Path(f"/proc/{child}/maps").read_text()
        )


DUMP = """Fatal Python error: Segmentation fault

Thread 0x00007f1 (most recent call first):
  File "/a/pool.py", line 3 in work

Current thread 0x00007f2 [name] (most recent call first):
  File "/a/in ner.py", line 5 in <lambda>
  File "/a/outer.py", line ??? in run

Extension modules: numpy (total: 1)
"""


def test_the_text_of_faulthandler_is_read() -> None:
    assert [(frame.file, frame.line) for frame in frames_of(DUMP)] == [("/a/outer.py", "???"), ("/a/in ner.py", "5")]
    none = DUMP.replace(
        '  File "/a/in ner.py", line 5 in <lambda>\n  File "/a/outer.py", line ??? in run', "  <no Python frame>"
    )
    assert [frame.file for frame in frames_of(none)] == ["/a/pool.py"] and frames_of("") == ()
