"""By which delegate this device runs its network: the first that answers as signed, and then the next.

Think of it as a bench of players: the settings name the delegates that are wanted, each is tried with the
file of the release that it runs, and the golden photos decide who plays. One that fails in the middle of work
is replaced while the frame waits, by one that runs in this process, and is left alone until the program is
started again.
"""

import fcntl
import os
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from devices.config import Settings
from devices.execution_report import ExecutionReport, last_execution
from edge.delegates import Delegate, delegate_order
from edge.embedder import AnyEmbedder, Embedder
from edge.errors import (
    BadSetting,
    DelegateFailed,
    DelegateMissing,
    Incompatible,
    ModelBroken,
    NextDelegate,
    ShelfsightError,
    TrialFailed,
    TryLater,
)
from edge.local_products import LocalProducts
from edge.matcher import Matcher, Vectors, check_golden, check_model, open_vectors
from edge.model import Variant, choose_variant
from edge.release import Release

_Answer = TypeVar("_Answer")

AT_ONCE: Final = 50
"""Photos that are embedded anew while somebody waits for an answer: a second or two."""

_REFUSES: Final = (NextDelegate, ModelBroken, Incompatible, TrialFailed)
"""What says that the network does not work in one way; it may in another."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a delegate does not run the network: the code of the failure, and its sentence."""

    delegate: str
    error: str
    message: str


class Execution:
    """The delegates of one program on this device, over all the releases that it opens.

    A program that has begun to use a vendor's delegate keeps it for itself until it ends, dead or alive: most
    accelerators cannot be shared, and others must not tell of one as sound that has died here. For one thread
    at a time.
    """

    def __init__(self, settings: Settings, *, taught: bool = False) -> None:
        """Take the settings; `taught` is whether releases are opened with what the device was taught itself.

        A trial, a measurement and a status are about the release alone.
        """
        self.settings = settings
        self.taught = taught
        self.order = delegate_order(settings.delegates)
        self._dead: dict[str, str] = {}
        self._claims: dict[str, int] = {}
        self._finalizer = weakref.finalize(self, _let_go, self._claims)

    def open(
        self, folder: Path, *, before: "Running | None" = None, held: Vectors | None = None
    ) -> "Running":
        """Open the release in `folder` by the first delegate that answers its golden photos as signed.

        It takes over what it has in common with the release `before`, which goes on answering meanwhile: the
        vectors (or those `held` otherwise), and an accelerator, where it runs the same network.

        Raises:
            StepBack, TrialFailed, Incompatible: it answers by none as signed; that is the release's fault.
            BadSetting: the release has no variant of the name that the settings want.
            RuntimeMissing: no TFLite runtime runs here.
            TryLater: another program of this device has the only delegate that could run it.
        """
        return Running(self, folder, before, held)

    def close(self) -> None:
        """Leave the delegates to other programs."""
        self._finalizer()

    def start(
        self, folder: Path, release: Release, delegate: Delegate, *, apart: bool = False
    ) -> tuple[Variant, AnyEmbedder]:
        """Start the network of the release in `folder` by one delegate, and say which file that is.

        `apart` gives it a process of its own even where it needs none.

        Raises:
            NextDelegate, ModelBroken, Incompatible: it does not run so.
            BadSetting: the release has no variant of the name that the settings want.
            RuntimeMissing: no TFLite runtime runs here.
            TryLater: another program has the delegate.
        """
        settings = self.settings
        variant = _variant_for(delegate, release, folder, settings.variant)
        path = folder / variant.sha256
        check_model(path, variant)
        how: dict[str, Any] = {
            "dimension": release.dimension,
            "input_size": release.input_size,
            "threads": settings.threads,
            "runtime": settings.runtime,
            "delegate": delegate,
            "library": _library(settings, delegate),
        }
        if not (delegate.isolated or apart):
            return variant, Embedder.open(path, **how)
        from devices.isolated import DelegateLost, IsolatedEmbedder

        if delegate.name in self._dead:
            raise DelegateFailed(self._dead[delegate.name])
        if delegate.isolated:
            self._claim(delegate)
        try:
            return variant, IsolatedEmbedder.open(path, **how)
        except DelegateLost as error:
            self.bury(delegate, error)
            raise

    def bury(self, delegate: Delegate, error: ShelfsightError) -> None:
        """Note that a vendor's delegate died: it is not tried again by this program."""
        if delegate.isolated:
            self._dead[delegate.name] = str(error)

    def _claim(self, delegate: Delegate) -> None:
        if delegate.name in self._claims:
            return
        try:
            path = self.settings.data / f"{delegate.name}.lock"
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        except OSError:
            return  # a disk that cannot be written must not keep the device from answering
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise TryLater(
                f"delegate {delegate.name} is in use by another program of this device: end that first"
            ) from None
        self._claims[delegate.name] = handle


class Running:
    """A release that answers, by the best delegate that still works. For one thread at a time.

    Attributes:
        matcher: What answers; another one after a delegate has failed.
        waits: Whether it is run by something else until the release before lets go of an accelerator.
        learned: Which edition of what this device was taught itself it searches too.
    """

    def __init__(
        self, execution: Execution, folder: Path, before: "Running | None", held: Vectors | None
    ) -> None:
        """Open the release in `folder`; raises what `Execution.open` does."""
        self._execution = execution
        self._folder = folder
        self._vectors: Vectors = open_vectors(folder, before._vectors if before is not None else held)
        self._before = before
        self.waits = False
        self._refusals: list[Refusal] = []
        self._left: list[Delegate] = []
        self._busy = ""
        self._others: list[Matcher] = []
        self._searched = self._vectors
        self.matcher, _ = self._first_to_answer(execution.order, lambda matcher: None)
        self._before = None  # else every release would keep all those before it
        self.learned = (0, 0)
        # Beside another one that answers there is time for all of them.
        self.take_local(None if before is not None else AT_ONCE)

    def take_local(self, at_once: int | None = AT_ONCE) -> None:
        """Search what this device was taught itself too, as it is now (`edge.local_products`).

        What has no vector in this release's space yet is embedded, `at_once` photos at most: the next call
        goes on. Nothing that goes wrong with it keeps the release from answering alone.
        """
        from devices.learning import rebuild

        local = LocalProducts(self._execution.settings.data)
        self.learned = local.edition()
        if local.is_empty() or not self._execution.taught:
            return
        with suppress(ShelfsightError):
            rebuild(local, self.matcher, at_once)
            over = partial(local.over, version=self._vectors.release.version)
            self._searched = open_vectors(self._folder, self._vectors, over)
            self.matcher, self._others = self._with_local(self.matcher), []

    def _with_local(self, matcher: Matcher) -> Matcher:
        searched = self._searched
        return Matcher(matcher.release, matcher.variant, searched.stack, matcher.embedder, searched.index)

    @property
    def passed_over(self) -> bool:
        """Whether a delegate was not tried because another program has it.

        By what this one runs its network says little about the device then.
        """
        return bool(self._busy)

    def ask(self, question: Callable[[Matcher], _Answer]) -> _Answer:
        """Ask the matcher; when its delegate fails, go on with the next one and ask that the same.

        Those that run in this process come first then, because a frame waits and they start in no time. What
        no delegate can answer is raised, and nothing has changed.

        Raises:
            ModelBroken: the network answers with nothing usable, by whatever delegate.
            NextDelegate: the delegate is dead, and by no other the release answers as signed.
            SkipPhoto: as `question` does.
        """
        try:
            return question(self.matcher)
        except (NextDelegate, ModelBroken) as error:
            return self._ask_others(question, error)

    def ask_all(self, questions: Sequence[Callable[[Matcher], _Answer]]) -> list[_Answer]:
        """Ask many things, on all cores where the network runs in this process; otherwise as `ask`."""
        hands = self._hands(len(questions))
        if len(hands) > 1:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(len(hands)) as pool:
                shares = [questions[place :: len(hands)] for place in range(len(hands))]
                try:
                    answered = list(pool.map(_answer, hands, shares))
                    return [
                        answered[place % len(hands)][place // len(hands)] for place in range(len(questions))
                    ]
                except (NextDelegate, ModelBroken):
                    pass  # one by one it is found out which delegate answers them
        return [self.ask(question) for question in questions]

    def _hands(self, wanted: int) -> list[Matcher]:
        """Return as many matchers of the same delegate as can be busy at once; one for a vendor's device."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        most = 1 if self._delegate.isolated else max(1, cores // self._execution.settings.threads)
        if self._others and self._others[0].embedder.delegate != self.matcher.embedder.delegate:
            self._others = []
        while 1 + len(self._others) < min(most, wanted):
            try:
                self._others.append(self._with_local(self._open_by(self._delegate)))
            except (*_REFUSES, TryLater):
                break
        return [self.matcher, *self._others[: max(0, min(most, wanted) - 1)]]

    def report(self) -> ExecutionReport:
        """Tell by what the network is run, and why it is not what was wanted."""
        embedder, order = self.matcher.embedder, self._execution.order
        first = self._refusals[0] if self._refusals else None
        return ExecutionReport(
            release=self._vectors.release.version,
            wanted=order[0].name,
            delegate=embedder.delegate,
            variant=self.matcher.variant.name,
            runtime=embedder.runtime,
            failed=first.delegate if first else None,
            error=first.error if first else None,
            message="; ".join(f"{each.delegate}: {each.message}" for each in self._refusals),
        )

    @property
    def accelerators(self) -> frozenset[str]:
        """The delegates of this device that one release at a time can use."""
        return frozenset(each.name for each in self._execution.order if each.isolated)

    def close(self, successor: "Running | None" = None) -> None:
        """End the process of the delegate, if it has one, and the `successor` has not taken it over."""
        if successor is None or successor.matcher.embedder is not self.matcher.embedder:
            self.matcher.embedder.close()

    def _ask_others(self, question: Callable[[Matcher], _Answer], failed: ShelfsightError) -> _Answer:
        if not self._left:
            raise failed
        refusals = list(self._refusals)
        self._refuse(self._delegate, failed)
        if isinstance(failed, NextDelegate):
            self._execution.bury(self._delegate, failed)
        try:
            matcher, answer = self._first_to_answer(sorted(self._left, key=_is_isolated), question)
        except (*_REFUSES, TryLater):
            self._refusals = refusals
            raise failed from None
        self.matcher.embedder.close()
        self.matcher = matcher
        return answer

    def _first_to_answer(
        self, delegates: Iterable[Delegate], question: Callable[[Matcher], _Answer]
    ) -> tuple[Matcher, _Answer]:
        """Return the matcher of the first delegate that answers as signed, and what it says."""
        left = list(delegates)
        while True:
            delegate = left.pop(0)
            matcher = None
            try:
                matcher = self._open_by(delegate)
                check_golden(matcher, self._folder)  # without what the device was taught: that is not signed
                matcher = self._with_local(matcher)
                answer = question(matcher)
            except TryLater as error:
                self._busy = str(error)
                if not left:
                    raise
            except _REFUSES as error:
                self._refuse(delegate, error)
                if matcher is not None and not self._is_lent(matcher.embedder):
                    matcher.embedder.close()
                if not left and self._busy:
                    raise TryLater(self._busy) from error
                if not left:
                    raise
            else:
                self._delegate, self._left = delegate, left
                self._note_refusal_of_runtime(matcher, delegate)
                self._note_missing_file(matcher, delegate)
                return matcher, answer

    def _open_by(self, delegate: Delegate) -> Matcher:
        vectors = self._vectors
        variant, embedder = self._lent(delegate) or self._execution.start(
            self._folder, vectors.release, delegate
        )
        return Matcher(vectors.release, variant, vectors.stack, embedder, vectors.index)

    def _lent(self, delegate: Delegate) -> tuple[Variant, AnyEmbedder] | None:
        """Take over an accelerator that the release before runs the same network by; None: it has it not.

        Raises:
            TryLater: the release before runs another network by it, and answers so until this one is open.
        """
        before, release = self._before, self._vectors.release
        if before is None or not delegate.isolated or before._delegate.name != delegate.name:
            return None
        variant = _variant_for(delegate, release, self._folder, self._execution.settings.variant)
        if variant.sha256 != before.matcher.variant.sha256:
            self.waits = True
            raise TryLater(f"delegate {delegate.name} runs the release before until this one is open")
        return variant, before.matcher.embedder

    def _is_lent(self, embedder: AnyEmbedder) -> bool:
        return self._before is not None and embedder is self._before.matcher.embedder

    def _refuse(self, delegate: Delegate, error: ShelfsightError) -> None:
        code = error.code
        if delegate.isolated and not isinstance(error, DelegateMissing):
            code = DelegateFailed.code  # what foreign code makes of a signed network is its own fault
        self._refusals.append(Refusal(delegate.name, code, str(error)))

    def _note_refusal_of_runtime(self, matcher: Matcher, delegate: Delegate) -> None:
        embedder = matcher.embedder
        if embedder.delegate != delegate.name:
            why = DelegateFailed(
                f"{embedder.runtime} gives {delegate.name} no operation of variant {matcher.variant.name}: "
                "install another runtime, such as ai-edge-litert"
            )
            self._refuse(delegate, why)

    def _note_missing_file(self, matcher: Matcher, delegate: Delegate) -> None:
        named = self._execution.settings.variant
        if named not in (None, matcher.variant.name):
            why = f"the file of variant {named} is not on this device: sync to fetch it"
            self._refuse(delegate, DelegateMissing(why))


def probe_delegates(settings: Settings, folder: Path) -> list[tuple[str, bool, str]]:
    """Try every delegate that the settings name, and the last resorts, with the release in `folder`.

    Each gets a process of its own and answers the golden photos there; nothing is changed or remembered.
    Returns the name of each, whether it answers as signed, and what was found, or why it does not.

    Raises:
        StepBack, Incompatible: the release is spoiled, whatever runs its network.
        BadSetting: the settings name a delegate that does not exist.
    """
    execution = Execution(settings)
    vectors = open_vectors(folder)
    found = []
    for delegate in execution.order:
        try:
            variant, embedder = execution.start(folder, vectors.release, delegate, apart=True)
            try:
                matcher = Matcher(vectors.release, variant, vectors.stack, embedder, vectors.index)
                check_golden(matcher, folder)
            finally:
                embedder.close()
        except TryLater as error:
            found.append((delegate.name, *_what_others_run(settings, delegate, error)))
        except ShelfsightError as error:
            found.append((delegate.name, False, str(error)))
        else:
            runs_by = "" if embedder.delegate == delegate.name else f", by {embedder.delegate}"
            answered = f"variant {variant.name} answers as signed{runs_by} ({embedder.runtime})"
            found.append((delegate.name, not runs_by, answered))
    execution.close()
    return found


def _what_others_run(settings: Settings, delegate: Delegate, error: TryLater) -> tuple[bool, str]:
    """Say of a delegate that another program has whether it works there."""
    report = last_execution(settings.data)
    if report is None or report.delegate == delegate.name:
        return True, "in use by another program of this device"
    return False, report.message or str(error)


def _variant_for(delegate: Delegate, release: Release, folder: Path, named: str | None) -> Variant:
    """Return the variant of the release that the delegate is to run: of its target, with its file here."""
    owner = f"release {release.version}"
    if named is not None:
        variant = choose_variant(release.variants, named, owner, BadSetting)
        if delegate.isolated and variant.target != delegate.target:
            raise DelegateMissing(
                f"the setting variant names {named}, which is for {variant.target}, and delegate "
                f"{delegate.name} runs files for {delegate.target}: name another, or none"
            )
        if delegate.isolated or (folder / variant.sha256).exists():
            return variant
    fitting = [each for each in release.variants if each.target == delegate.target]
    here = [each for each in fitting if (folder / each.sha256).exists()]
    if here:
        return here[0]
    if not delegate.isolated:
        return choose_variant(
            release.variants, None, owner, Incompatible
        )  # the next sync brings a missing file
    if fitting:
        raise DelegateMissing(f"the file of {owner} for {delegate.target} is not on this device: sync again")
    raise DelegateMissing(f"{owner} has no file for {delegate.target}: publish it with one")


def _library(settings: Settings, delegate: Delegate) -> str:
    libraries = {
        "edgetpu": settings.edgetpu_library,
        "gpu": settings.gpu_library,
        "external": settings.external_library,
    }
    return libraries.get(delegate.name, "")


def _answer(matcher: Matcher, questions: Sequence[Callable[[Matcher], _Answer]]) -> list[_Answer]:
    return [question(matcher) for question in questions]


def _is_isolated(delegate: Delegate) -> bool:
    return delegate.isolated


def _let_go(claims: dict[str, int]) -> None:
    for handle in claims.values():
        os.close(handle)
    claims.clear()
