"""Forks of the fork server are what the Python in whose place they stand would be."""

import multiprocessing
import multiprocessing.resource_tracker
import multiprocessing.spawn
import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from openrlhf_ktae import fork_client, forks
from openrlhf_ktae.training import cpu

WAITS = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name in cpu.ENVIRONMENT:  # as in a sweep: it sees to them itself
            patch.delenv(name, raising=False)
        server = forks.start(tmp_path_factory.mktemp("fork"))
    yield server
    server.process.stdin.close()
    assert server.process.wait(10) == 0


def run(python, *arguments, **settings):
    return subprocess.run([python, *arguments], capture_output=True, text=True, timeout=60, **settings)


def waiting(python):
    """A client whose fork waits, and the fork."""
    client = subprocess.Popen([python, "-c", WAITS], stdout=subprocess.PIPE, text=True)
    return client, psutil.Process(int(client.stdout.readline()))


def gone(process):
    return psutil.wait_procs([process], timeout=5)[1] == [] or process.status() == psutil.STATUS_ZOMBIE


def test_code_with_arguments_environment_folder_and_standard_input(server, tmp_path):
    code = "import os, sys; print(sys.argv, os.environ['HERE'], 'HOME' in os.environ, os.getcwd(), sys.stdin.read())"
    done = run(server.python, "-B", "-c", code, "a", "b c", env={"HERE": "é"}, cwd=tmp_path, input="typed")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"['-c', 'a', 'b c'] é False {tmp_path} typed\n"


def test_a_script_beside_its_modules(server, tmp_path):
    (tmp_path / "beside.py").write_text("NAME = 'beside'")
    script = tmp_path / "script.py"
    script.write_text("import sys, beside; print(__name__, __file__, sys.argv, beside.NAME)")
    done = run(server.python, str(script), "a")
    assert done.stdout == f"__main__ {script} ['{script}', 'a'] beside\n", done.stderr


def test_a_module(server, tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "module.py").write_text("import sys; print(__name__, __package__, sys.argv[1:])")
    done = run(server.python, "-m", "package.module", "a", cwd=tmp_path)
    assert done.stdout == "__main__ package ['a']\n", done.stderr


def test_it_computes_on_the_cores_of_its_client(server):
    core = min(os.sched_getaffinity(0))
    code = "import os; print(os.sched_getaffinity(0))"
    done = run(server.python, "-c", code, preexec_fn=lambda: os.sched_setaffinity(0, {core}))
    assert done.stdout == f"{{{core}}}\n", done.stderr


def test_a_server_may_be_a_fork_of_a_shared_one_and_its_forks_are_of_its_session(tmp_path, monkeypatch):
    for name, value in cpu.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    for folder in ("shared", "own"):
        (tmp_path / folder).mkdir()
    shared = forks.start(tmp_path / "shared", shared=True)
    code = "import os, sys; print(os.getpid() == os.getsid(0), os.getsid(0), 'vllm' in sys.modules)"
    assert run(shared.python, "-c", code).stdout.split()[::2] == ["True", "True"]
    own = forks.start(tmp_path / "own", str(shared.python))
    found = [run(own.python, "-c", code).stdout.split() for _ in range(2)]
    leads, sessions, imported = zip(*found, strict=True)
    assert set(leads) == {"False"} and set(imported) == {"True"} and len(set(sessions)) == 1
    assert int(sessions[0]) not in (os.getsid(0), os.getsid(shared.process.pid))
    own.process.stdin.close()
    assert own.process.wait(10) == 0
    shared.process.terminate()
    shared.process.communicate()


def test_open_files_keep_their_numbers(server):
    read, write = os.pipe()
    # A number that the server itself uses for something else.
    os.dup2(write, 30)
    for number in (write, 30):
        os.set_inheritable(number, True)
    code = f"import os; os.write(30, b'one '); os.write({write}, b'two'); os.fstat({read})"
    done = run(server.python, "-c", code, pass_fds=(write, 30))
    os.close(write)
    os.close(30)
    assert os.read(read, 100) == b"one two"
    os.close(read)
    assert done.returncode == 1 and "OSError" in done.stderr  # what is not handed over is not open


def test_everything_large_is_imported_and_ray_is_not(server):
    """Ray reads RAY_JOB_ID and RAY_RAYLET_PID, which are a worker's own, when it is imported (core_worker.cc)."""
    code = "import sys; print([n for n in ('torch', 'transformers', 'deepspeed', 'vllm', 'ray') if n in sys.modules])"
    assert run(server.python, "-c", code).stdout == "['torch', 'transformers', 'deepspeed', 'vllm']\n"


def test_a_fork_has_one_thread_and_computes(server):
    code = (
        "import os, torch\n"
        "print(len(os.listdir('/proc/self/task')), torch.get_num_threads())\n"
        "a = torch.eye(300); print(int((a @ a).sum()))"
    )
    # The second thread ends the fork with its client.
    assert run(server.python, "-c", code).stdout == "2 1\n300\n"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("raise SystemExit(3)", 3),
        ("raise SystemExit('words')", 1),
        ("1 / 0", 1),
        ("import os; os.kill(os.getpid(), 9)", -9),
        ("import os; os.kill(os.getpid(), 15)", -15),
    ],
)
def test_it_ends_as_the_fork_ends(server, code, expected):
    done = run(server.python, "-c", code)
    plain = run(sys.executable, "-c", code)
    assert done.returncode == expected == plain.returncode
    assert done.stderr.splitlines()[-1:] == plain.stderr.splitlines()[-1:]


def test_who_kills_the_client_kills_the_fork(server):
    client, fork = waiting(server.python)
    client.kill()
    client.communicate()
    assert gone(fork)


def test_what_a_fork_started_ends_with_it(server):
    """Nobody else would end it where the session that a run is ended by is not that of its forks."""
    code = f"import subprocess, time; subprocess.Popen([{str(server.python)!r}, '-c', {WAITS!r}]); time.sleep(60)"
    client = subprocess.Popen([server.python, "-c", code], stdout=subprocess.PIPE, text=True)
    grandchild = psutil.Process(int(client.stdout.readline()))
    client.kill()
    assert gone(grandchild)
    client.communicate()


RAY = """
import os, subprocess, sys
from openrlhf_ktae.config import RunOptions
from openrlhf_ktae import forks
from openrlhf_ktae.training import cluster

cluster.start_ray(RunOptions(device="cpu"), {forks.PYTHON_VARIABLE: sys.argv[1]}, {"policy": 1})
import ray

@ray.remote
class Actor:
    def start(self):
        command = [os.environ[forks.PYTHON_VARIABLE], "-c", sys.argv[2]]
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        return os.getpid(), int(self.child.stdout.readline())

actor = Actor.remote()
print(*ray.get(actor.start.remote()), flush=True)
sys.stdin.read()
"""


@pytest.mark.ray
@pytest.mark.parametrize("own_session", [False, True], ids=["of one session", "of another session"])
def test_what_an_actor_started_ends_when_the_actor_is_killed(server, tmp_path, own_session):
    """By Ray, with the actor's process group. vLLM's engine would live on, and the policy wait for it for ever."""
    script = tmp_path / "driver.py"
    script.write_text(RAY.replace("sys.argv[2]", repr(WAITS)))
    outside = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    line = [sys.executable, str(script), str(server.python)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    driver = subprocess.Popen(line, env=outside, start_new_session=own_session, **pipes)
    actor, child = map(psutil.Process, map(int, driver.stdout.readline().split()))
    child.suspend()  # what is asked of it meanwhile it would not answer
    actor.kill()
    _, alive = psutil.wait_procs([child], timeout=10)
    driver.communicate(timeout=60)
    assert not alive


@pytest.mark.parametrize("sent", [b"", fork_client.HEAD.pack(100), fork_client.HEAD.pack(100) + b'{"arguments"'])
def test_a_client_killed_before_it_has_asked_disturbs_nobody(server, sent):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(server.python.with_name("python.socket")))
        client.sendall(sent)
    assert run(server.python, "-c", "print('torch' in __import__('sys').modules)").stdout == "True\n"


def test_a_signal_reaches_the_fork(server):
    client, fork = waiting(server.python)
    client.terminate()
    client.communicate(timeout=5)
    assert client.returncode == -signal.SIGTERM and gone(fork)


@pytest.mark.parametrize("source", ["from ray._raylet", "from setproctitle"])
def test_titles_can_be_set(server, source):
    code = f"{source} import setproctitle; setproctitle('a title'); print(open('/proc/self/cmdline').read())"
    # Even where nothing of the environment stays as it was.
    done = run(server.python, "-c", code, env={"PATH": "/bin"})
    assert done.stdout.startswith("a title"), done.stderr


def test_multiprocessing_spawns_through_it(server):
    context = multiprocessing.get_context("spawn")
    multiprocessing.resource_tracker.ensure_running()  # of this whole process, and therefore not by the server
    before = multiprocessing.spawn.get_executable()
    multiprocessing.set_executable(str(server.python))
    try:
        queue = context.Queue()
        process = context.Process(target=queue.put, args=("torch" in sys.modules,))
        process.start()
    finally:
        multiprocessing.set_executable(before)
    assert queue.get(timeout=60) is ("torch" in sys.modules)
    process.join(10)
    assert process.exitcode == 0


def test_without_a_server_it_is_python_itself(tmp_path):
    server = forks.start(tmp_path)
    server.process.kill()
    server.process.wait()
    server.process.stdin.close()
    code = "import sys; print('torch' in sys.modules, sys.argv)"
    assert run(server.python, "-c", code, "a").stdout == "False ['-c', 'a']\n"
    client = subprocess.Popen([server.python, "-c", WAITS], stdout=subprocess.PIPE, text=True)
    assert int(client.stdout.readline()) == client.pid
    client.kill()
    client.communicate()


def test_the_server_ends_with_its_process(tmp_path):
    code = (
        "import pathlib, sys, time\n"
        "from openrlhf_ktae import forks\n"
        f"server = forks.start(pathlib.Path({str(tmp_path)!r}))\n"
        "print(server.process.pid, flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    server = psutil.Process(int(owner.stdout.readline()))
    owner.kill()
    owner.communicate()
    # It looks when it has imported everything.
    deadline = time.monotonic() + 60
    while server.is_running() and server.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE
