"""A network in a process of its own: the same answers, and nothing that happens there reaches this one."""

import contextlib
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from types import FrameType

import numpy as np
import pytest
from numpy.typing import NDArray

from devices.isolated import DelegateLost, IsolatedEmbedder
from edge.delegates import XNNPACK, Delegate, find_delegate
from edge.embedder import Embedder
from edge.errors import DelegateFailed, DelegateMissing, Incompatible
from edge.model import Model
from tests.devices.conftest import Foreign

EXTERNAL = find_delegate("external")


def noise(seed: int = 7) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def is_running(process: int) -> bool:
    """Tell whether a process is there; a dead one that nobody has waited for is not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def ends_within(process: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not is_running(process):
            return True
        time.sleep(0.01)
    return False


def open_isolated(
    model: Model,
    library: Path | str,
    *,
    delegate: Delegate = EXTERNAL,
    open_s: float | None = None,
    run_s: float | None = None,
) -> IsolatedEmbedder:
    return IsolatedEmbedder.open(
        model.path(model.variant()),
        dimension=model.dimension,
        input_size=model.input_size,
        delegate=delegate,
        library=str(library),
        open_s=open_s,
        run_s=run_s,
    )


@pytest.fixture
def here(tiny_model: Model) -> Embedder:
    """Give the same network in this process."""
    return Embedder.open(tiny_model.path(tiny_model.variant()), dimension=16, input_size=32)


@pytest.fixture
def isolated(tiny_model: Model, foreign_delegate: Path) -> Iterator[IsolatedEmbedder]:
    """Give the network in a process of its own, run by a foreign delegate that works."""
    embedder = open_isolated(tiny_model, foreign_delegate)
    yield embedder
    embedder.close()


def test_it_answers_as_in_this_process(isolated: IsolatedEmbedder, here: Embedder) -> None:
    assert (isolated.delegate, isolated.runtime) == ("external", here.runtime)
    for seed in range(5):
        mine, its = here.embed(noise(seed)), isolated.embed(noise(seed))
        assert mine.vector @ its.vector > 0.9999
        assert its.local.shape == mine.local.shape
        assert np.abs(its.local - mine.local).max() < 1.0


def test_an_embedding_stays_as_it_was_when_the_next_picture_comes(isolated: IsolatedEmbedder) -> None:
    first = isolated.embed(noise())
    vector, local = first.vector.copy(), first.local.copy()
    isolated.embed(255 - noise())
    isolated.invoke(noise(3))
    np.testing.assert_array_equal(first.vector, vector)
    np.testing.assert_array_equal(first.local, local)
    np.testing.assert_array_equal(isolated.embed(noise()).vector, vector)


def test_a_picture_that_was_not_fitted_is_refused_and_kills_nobody(isolated: IsolatedEmbedder) -> None:
    for picture in (noise()[:31], noise().astype(np.float32), noise()[:, :, :1]):
        with pytest.raises(Incompatible, match=r"edge\.image\.fit"):
            isolated.embed(picture)
    isolated.embed(noise())


def test_a_picture_costs_less_than_half_a_millisecond_more(
    isolated: IsolatedEmbedder, here: Embedder
) -> None:
    picture, more = noise(), []
    for _ in range(200):
        began = time.perf_counter()
        here.embed(picture)
        between = time.perf_counter()
        isolated.embed(picture)
        more.append(time.perf_counter() - between - (between - began))
    assert median(more) < 0.5e-3


@pytest.mark.parametrize(
    ("does", "error", "sentence"),
    [
        ("refuses", DelegateFailed, "no device of this vendor is plugged in"),
        ("takes-nothing", DelegateFailed, "takes no operation of it"),
        ("fails", DelegateFailed, "failed to invoke"),
        ("says-nan", DelegateFailed, "answers with NaN"),
        ("segfaults-at-create", DelegateLost, "died of SIGSEGV when it was opened"),
        ("segfaults", DelegateLost, "died of SIGSEGV when it was opened"),
        ("hangs-at-create", DelegateLost, r"hung when it was opened \(no answer in 2 s\)"),
    ],
)
def test_what_goes_wrong_when_it_is_opened_is_said_in_a_sentence(
    tiny_model: Model, foreign: Foreign, does: str, error: type[DelegateFailed], sentence: str
) -> None:
    foreign.does(does)
    with pytest.raises(error, match=sentence):
        open_isolated(tiny_model, foreign.library, open_s=2.0)


def test_a_library_that_is_not_for_here_is_missing(
    tiny_model: Model, library_of_another_machine: Path, tmp_path: Path
) -> None:
    for library, why in (
        (library_of_another_machine, "is made for sparc64"),
        (tmp_path / "no.so", "not there"),
    ):
        with pytest.raises(DelegateMissing, match=why):
            open_isolated(tiny_model, library)


def test_where_there_is_no_gpu_a_compiled_model_says_so_and_kills_nobody(tiny_model: Model) -> None:
    for name in ("compiled-gpu", "compiled-npu"):
        try:
            embedder = open_isolated(tiny_model, "", delegate=find_delegate(name))
        except (DelegateFailed, DelegateMissing) as error:
            assert f"delegate {name} " in str(error)
        else:  # a machine that has one
            assert embedder.embed(noise()).vector.shape == (16,)
            embedder.close()


@pytest.mark.parametrize(
    ("does", "error", "sentence"),
    [
        ("segfaults", DelegateLost, "died of SIGSEGV in use"),
        ("hangs", DelegateLost, r"hung in use \(no answer in 0\.5 s\)"),
        ("fails", DelegateFailed, "failed to invoke"),
        ("says-nan", DelegateFailed, "answers with NaN"),
    ],
)
def test_what_goes_wrong_in_use_ends_the_process_and_is_said_in_a_sentence(
    tiny_model: Model, foreign: Foreign, does: str, error: type[DelegateFailed], sentence: str
) -> None:
    foreign.will(does)
    embedder = open_isolated(tiny_model, foreign.library, run_s=0.5)
    embedder.embed(noise())
    foreign.now()
    with pytest.raises(error, match=sentence):
        embedder.embed(noise())
    assert not is_running(embedder.process_id)
    with pytest.raises(DelegateFailed, match="is closed"):
        embedder.embed(noise())
    embedder.close()


def test_an_answer_that_nobody_waited_for_is_not_taken_for_the_next(
    tiny_model: Model, foreign: Foreign
) -> None:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    foreign.will("hangs")
    embedder = open_isolated(tiny_model, foreign.library, run_s=30)
    foreign.now()
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            embedder.embed(noise())
    finally:
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(DelegateFailed, match="is closed"):
        embedder.embed(noise())


def test_the_process_ends_when_it_is_closed_or_forgotten(tiny_model: Model, foreign_delegate: Path) -> None:
    gc.collect()  # what earlier tests left open may be closed at any time
    opened = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    closed, forgotten = (open_isolated(tiny_model, foreign_delegate) for _ in range(2))
    processes = (closed.process_id, forgotten.process_id)
    assert all(map(is_running, processes))
    closed.close()
    closed.close()
    del closed, forgotten
    gc.collect()
    assert not any(map(is_running, processes))
    assert set(os.listdir("/proc/self/fd")) == opened, "nothing is left open"  # noqa: PTH208


@pytest.mark.parametrize("does", ["works", "hangs", "hangs-at-create"])
def test_the_process_dies_with_its_parent_even_in_the_middle_of_foreign_code(
    tiny_model: Model, foreign: Foreign, tmp_path: Path, does: str
) -> None:
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from devices.isolated import IsolatedEmbedder, _Child\n"
        "from edge.delegates import find_delegate\n"
        "start = _Child.start\n"
        "def started(child, job):\n"
        "    start(child, job)\n"
        "    print(child.process_id, flush=True)\n"
        "_Child.start = started\n"
        "embedder = IsolatedEmbedder.open(Path(sys.argv[1]), dimension=16, input_size=32, run_s=60, "
        "delegate=find_delegate('external'), library=sys.argv[2])\n"
        "print('open', flush=True)\n"
        "Path(sys.argv[3]).touch()  # foreign.now()\n"
        "embedder.embed(np.zeros((32, 32, 3), np.uint8))\n"
        "time.sleep(60)\n"
    )
    foreign.will(does)
    network = tiny_model.path(tiny_model.variant())
    with subprocess.Popen(
        [sys.executable, "-c", script, network, foreign.library, tmp_path / "now"], stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        if does == "hangs-at-create":
            time.sleep(1.0)  # it is in foreign code by now
        else:
            assert parent.stdout.readline() == b"open\n"
            time.sleep(0.2)
        assert is_running(child)
        parent.kill()
    assert ends_within(child, 2.0)


def test_nobody_is_hurt_by_ctrl_c_at_the_parent(isolated: IsolatedEmbedder) -> None:
    assert os.getpgid(isolated.process_id) != os.getpgid(os.getpid())
    isolated.embed(noise())


def test_any_delegate_can_be_given_a_process_of_its_own(tiny_model: Model, here: Embedder) -> None:
    with contextlib.closing(open_isolated(tiny_model, "", delegate=XNNPACK)) as embedder:
        assert embedder.delegate == here.delegate
        np.testing.assert_array_equal(embedder.embed(noise()).vector, here.embed(noise()).vector)


def test_no_folder_of_the_same_name_is_run_instead(
    tiny_model: Model, foreign_delegate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "devices").mkdir()
    (tmp_path / "devices" / "isolated_child.py").write_text("raise SystemExit('not this one')")
    (tmp_path / "json.py").write_text("raise SystemExit('nor this one')")
    monkeypatch.chdir(tmp_path)
    open_isolated(tiny_model, foreign_delegate).close()
