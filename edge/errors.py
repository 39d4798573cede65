"""Every failure of Shelfsight, grouped by what the caller does next.

    ShelfsightError
    ├── SkipPhoto          this photo cannot be answered: say so, go on with the next
    │   ├── PhotoMissing          the file is not there or may not be read
    │   ├── PhotoUnreadable       not a picture, cut short, corrupt
    │   ├── PhotoTooLarge         more pixels or bytes than a device decodes
    │   └── PhotoTooSmall         too few pixels to recognize anything
    ├── SkipRecord         this catalog record is refused: say so, go on with the next
    │   ├── BadGtin               wrong length, letters, or a wrong check digit
    │   ├── BadProduct            a missing or malformed field
    │   └── DuplicateSku          one key, two different products
    ├── KeepRelease        what was offered is refused: keep the release you have
    │   ├── HashMismatch          bytes that are not the signed bytes
    │   ├── BadSignature          not signed by the keys this device trusts
    │   ├── Freeze                signed, but too long ago: an old copy is held up to us, or a wrong clock
    │   ├── Rollback              older than what this device has accepted
    │   ├── FormatTooNew          made for a newer Shelfsight
    │   ├── BadManifest           a release.json that says something impossible
    │   ├── Incompatible          model, segments and device do not fit together
    │   ├── NoSpace               the disk cannot hold it
    │   └── TrialFailed           its golden photos were not answered as signed, or it was tried before
    │       ├── TrialCrashed          the process of its trial died
    │       ├── TrialHung             its trial did not end in its time
    │       ├── TrialSlow             it answers, more slowly than this device may
    │       └── TrialGreedy           it takes more memory than this device has for it
    ├── StepBack           what is installed does not work: go back to the last good release
    │   ├── ModelBroken           the model does not load, or answers with NaN
    │   ├── SegmentBroken         a vector file that is not what its name says
    │   └── IndexBroken           an Annoy file that must not be mapped
    ├── NextDelegate       this delegate does not answer: go on with the next one
    │   ├── DelegateMissing       its library is not here, or made for another processor
    │   └── DelegateFailed        it refused the network, died, hung, or computes something else
    ├── TryLater           nothing is wrong here: wait, then try again
    │   ├── ServerUnreachable     no connection, a time-out, a name that does not resolve
    │   │   └── Redirected            it sends us on to somewhere else
    │   ├── ServerBusy            5xx, 429, or Retry-After
    │   ├── TransferBroken        the body is not what was asked for
    │   │   ├── CutShort              it ended early
    │   │   ├── Slow                  it drips, or took all the time that there is for it
    │   │   ├── WrongRange            another part of the file than was asked for
    │   │   ├── Oversize              more bytes than were signed or can be
    │   │   └── Packed                packed, which was not asked for
    │   └── OutOfBudget           this update has used up its bytes, its time or its tries: next time
    └── FixSetup           a person has to change something
        ├── NotEnrolled           no server is known to this device
        ├── EnrollmentRefused     a wrong, used or expired code
        ├── AccessDenied          the server does not know this device any more
        ├── NoRelease             nothing is installed, or nothing is published
        ├── RuntimeMissing        no TFLite runtime that runs here
        ├── BadSetting            a setting with a value that cannot be
        ├── BadModel              a model folder that cannot be used
        ├── BadNetwork            a trained network that cannot be converted
        ├── NotCertified          a model file that was not shown to be the same network
        ├── NothingRecognized     a release that no device would take
        └── StorageUnusable       a folder or database that cannot be read or written

A message names the thing, the value and the cure, in one sentence. `code` is the snake-case name of the
class: the word that `status --json` shows and that travels to the cloud in a `failed` event.
"""

import re


class ShelfsightError(Exception):
    """Base of every failure that Shelfsight raises on purpose."""

    code = "shelfsight_error"

    def __init_subclass__(cls) -> None:
        """Name the code after the class, so that the two cannot drift apart."""
        cls.code = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()


class SkipPhoto(ShelfsightError):
    """This photo cannot be answered: say so, go on with the next."""


class PhotoMissing(SkipPhoto):
    """The file is not there or may not be read."""


class PhotoUnreadable(SkipPhoto):
    """Not a picture, cut short, or corrupt."""


class PhotoTooLarge(SkipPhoto):
    """More pixels or bytes than a device decodes."""


class PhotoTooSmall(SkipPhoto):
    """Too few pixels to recognize anything."""


class SkipRecord(ShelfsightError):
    """This catalog record is refused: say so, go on with the next."""


class BadGtin(SkipRecord):
    """Wrong length, letters, or a wrong check digit."""


class BadProduct(SkipRecord):
    """A missing or malformed field."""


class DuplicateSku(SkipRecord):
    """One key, two different products."""


class KeepRelease(ShelfsightError):
    """What was offered is refused: keep the release you have."""


class HashMismatch(KeepRelease):
    """Bytes that are not the signed bytes."""


class BadSignature(KeepRelease):
    """Not signed by the keys this device trusts."""


class Freeze(KeepRelease):
    """Signed, but too long ago: an old copy is held up to us, a server without `tick`, or a wrong clock."""


class Rollback(KeepRelease):
    """Older than what this device has accepted."""


class FormatTooNew(KeepRelease):
    """Made for a newer Shelfsight."""


class BadManifest(KeepRelease):
    """A release.json that says something impossible."""


class Incompatible(KeepRelease):
    """Model, segments and device do not fit together."""


class NoSpace(KeepRelease):
    """The disk cannot hold it."""


class TrialFailed(KeepRelease):
    """Its golden photos were not answered as signed, or it was tried here before and failed."""


class TrialCrashed(TrialFailed):
    """The process of its trial died."""


class TrialHung(TrialFailed):
    """Its trial did not end in its time."""


class TrialSlow(TrialFailed):
    """It answers, more slowly than this device may."""


class TrialGreedy(TrialFailed):
    """It takes more memory than this device has for it."""


class StepBack(ShelfsightError):
    """What is installed does not work: go back to the last good release."""


class ModelBroken(StepBack):
    """The model does not load, or answers with NaN."""


class SegmentBroken(StepBack):
    """A vector file that is not what its name says."""


class IndexBroken(StepBack):
    """An Annoy file that must not be mapped."""


class NextDelegate(ShelfsightError):
    """This delegate does not answer: go on with the next one."""


class DelegateMissing(NextDelegate):
    """Its library is not here, or was made for another processor."""


class DelegateFailed(NextDelegate):
    """It refused the network, died, hung, or computes something else."""


class TryLater(ShelfsightError):
    """Nothing is wrong here: wait, then try again.

    `retry_after` is what the server asked for, in seconds, `status` the HTTP status with which it refused;
    each is None where there was none.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.status = status


class ServerUnreachable(TryLater):
    """No connection, a time-out, or a name that does not resolve."""


class Redirected(ServerUnreachable):
    """It sends us on to somewhere else."""


class ServerBusy(TryLater):
    """5xx, 429, or Retry-After."""


class TransferBroken(TryLater):
    """The body is not what was asked for."""


class CutShort(TransferBroken):
    """The body ended early."""


class Slow(TransferBroken):
    """The body drips, or took all the time that there is for it."""


class WrongRange(TransferBroken):
    """The body is another part of the file than was asked for."""


class Oversize(TransferBroken):
    """The body has more bytes than were signed or can be."""


class Packed(TransferBroken):
    """The body is packed, which was not asked for."""


class OutOfBudget(TryLater):
    """This update has used up its bytes, its time or its tries: what came is kept for the next."""


class FixSetup(ShelfsightError):
    """A person has to change something."""


class NotEnrolled(FixSetup):
    """No server is known to this device."""


class EnrollmentRefused(FixSetup):
    """A wrong, used or expired code."""


class AccessDenied(FixSetup):
    """The server does not know this device any more."""


class NoRelease(FixSetup):
    """Nothing is installed, or nothing is published."""


class RuntimeMissing(FixSetup):
    """No TFLite runtime that runs here."""


class BadSetting(FixSetup):
    """A setting with a value that cannot be."""


class BadModel(FixSetup):
    """A model folder that cannot be used."""


class BadNetwork(FixSetup):
    """A trained network that cannot be converted."""


class NotCertified(FixSetup):
    """A model file that was not shown to be the same network."""


class NothingRecognized(FixSetup):
    """A release of which no photo shows that it recognizes anything: no device would take it."""


class StorageUnusable(FixSetup):
    """A folder or database that cannot be read or written."""
