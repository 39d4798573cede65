"""Publishing, killed wherever it can be killed, and judged by what a device would get."""

import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cloud import publishing, signing
from cloud.catalog import Catalog
from cloud.offers import Offers
from cloud.publishing import Publication, publish
from cloud.releases import Releases
from cloud.rollouts import Rollouts
from cloud.workspace import Workspace
from edge.certificate import read_certificate
from edge.errors import (
    BadModel,
    BadNetwork,
    NoRelease,
    NotCertified,
    NothingRecognized,
    ShelfsightError,
    StorageUnusable,
)
from edge.image import Picture, encode_jpeg
from edge.matcher import Matcher, check_golden, prepare_release_folder
from edge.model import Model, open_model
from edge.products import Product
from edge.release import Release
from tests.cloud.conftest import ROOT, add_pack, draw_pack, with_file
from tests.conftest import DATA


class Killed(BaseException):
    """Stands for a power cut: no code of ours catches it."""


@contextmanager
def killed_at(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, *, after: int = 0) -> Iterator[None]:
    """Cut the power at the call number `after` of a function that publishing uses."""
    real = getattr(owner, name)
    calls = iter(range(1000))

    def cut(*args: object, **kwargs: object) -> object:
        if next(calls) >= after:
            raise Killed
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, cut)
        with pytest.raises(Killed):
            yield


def install(
    workspace: Workspace, published: Publication, folder: Path, variant: str | None = None
) -> Matcher:
    """Do what a device does with a published release, from the repository's files alone."""
    manifest = (workspace.files / published.release.sha256).read_bytes()
    release = Release.from_bytes(manifest)
    folder.mkdir()
    (folder / "release.json").write_bytes(manifest)
    for entry in release.files:
        data = (workspace.files / entry.sha256).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry.sha256
        (folder / entry.sha256).write_bytes(data)
    prepare_release_folder(folder)
    matcher = Matcher.open(folder, variant=variant)
    check_golden(matcher, folder)
    return matcher


def manifest_of(workspace: Workspace, published: Publication) -> Release:
    return Release.from_bytes((workspace.files / published.release.sha256).read_bytes())


def test_a_device_can_take_what_was_published(
    workspace: Workspace, catalog: Catalog, tiny_model: Model, tmp_path: Path
) -> None:
    published = publish(workspace, tiny_model)
    assert published.changed
    assert (published.release.version, published.release.products, published.release.rows) == (1, 6, 18)
    assert (published.embedded, published.reused, published.refused) == (18, 0, ())
    matcher = install(workspace, published, tmp_path / "device")
    assert sorted(matcher.stack.products) == [product.sku for product in catalog.products()]
    assert signing.target_names(workspace.metadata) == ("releases/1.json",)
    assert Offers(workspace.sessions()).offer("d-1", None, None).version == 1


def test_a_new_device_fetches_the_whole_and_an_old_one_what_is_new(
    workspace: Workspace, catalog: Catalog, tiny_model: Model
) -> None:
    for number in range(6, 30):
        add_pack(catalog, number)
    first = publish(workspace, tiny_model).release
    assert first.new_bytes == first.size > 10_000
    add_pack(catalog, 0, price="2.49")
    second = publish(workspace, tiny_model).release
    assert second.version == 2
    assert second.size > first.size
    assert second.new_bytes < 4000


@pytest.mark.usefixtures("catalog")
def test_publishing_twice_makes_one_release(workspace: Workspace, tiny_model: Model) -> None:
    publish(workspace, tiny_model)
    again = publish(workspace, tiny_model)
    assert not again.changed
    assert (again.release.version, again.embedded, again.reused) == (1, 0, 18)
    assert signing.target_names(workspace.metadata) == ("releases/1.json",)


@pytest.mark.usefixtures("catalog")
def test_a_share_of_the_devices_can_be_offered_the_release(workspace: Workspace, tiny_model: Model) -> None:
    publish(workspace, tiny_model, percent=0)
    assert Offers(workspace.sessions()).offer("d-1", None, None).version is None


# Several files ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("catalog")
def test_every_file_that_devices_run_is_in_the_release_with_its_certificate(
    workspace: Workspace, several_model: Model
) -> None:
    published = publish(workspace, several_model)
    release = manifest_of(workspace, published)
    assert [variant.name for variant in release.variants] == ["int8", "edgetpu", "float16"]
    assert published.left_out == ()
    (certificate,) = [entry for entry in release.files if entry.role == "certificate"]
    signed = (several_model.folder / "certificate.json").read_bytes()
    assert (workspace.files / certificate.sha256).read_bytes() == signed
    assert published.release.files == len(release.files)


@pytest.mark.usefixtures("catalog")
@pytest.mark.parametrize("variant", ["int8", "float16"])
def test_every_file_that_runs_here_answers_the_golden_photos_of_the_release(
    workspace: Workspace, several_model: Model, tmp_path: Path, variant: str
) -> None:
    published = publish(workspace, several_model)
    matcher = install(workspace, published, tmp_path / "device", variant)
    assert matcher.variant.name == variant
    assert len(matcher.release.golden) == 4


@pytest.mark.usefixtures("catalog")
def test_the_files_for_other_hardware_cost_a_device_that_answers_on_its_cpu_nothing(
    workspace: Workspace, several_model: Model
) -> None:
    several = publish(workspace, several_model)
    sizes = {each.variant.name: each.variant.size for each in several.files}
    release = manifest_of(workspace, several)
    manifest = (workspace.files / several.release.sha256).stat().st_size
    everything = manifest + sum(entry.size for entry in release.files)
    assert several.release.size == everything - sizes["float16"] - sizes["edgetpu"]


@pytest.mark.usefixtures("catalog")
def test_another_target_or_another_certificate_makes_a_new_release(
    workspace: Workspace, several_model: Model, tmp_path: Path
) -> None:
    model = open_model(Path(shutil.copytree(several_model.folder, tmp_path / "model")))
    assert publish(workspace, model, targets=["cpu"]).release.version == 1
    assert publish(workspace, model, targets=["cpu"]).changed is False
    assert publish(workspace, model, targets=["gpu"]).release.version == 2
    certificate = read_certificate(model.folder)
    assert certificate is not None
    measured_anew = replace(certificate, extra={"again": True})
    (model.folder / "certificate.json").write_bytes(measured_anew.to_bytes())
    assert publish(workspace, model, targets=["gpu"]).release.version == 3


def misfit(name: str) -> bytes:
    return (DATA / "broken-models" / f"{name}.tflite").read_bytes()


def in_certificate(model: Model, old: bytes, new: bytes) -> Model:
    path = model.folder / "certificate.json"
    path.write_bytes(path.read_bytes().replace(old, new))
    return model


def without_certificate(model: Model) -> Model:
    (model.folder / "certificate.json").unlink()
    return model


REFUSED: dict[str, tuple[type[ShelfsightError], Callable[[Model], Model]]] = {
    "no certificate": (NotCertified, without_certificate),
    "another model's certificate": (
        NotCertified,
        lambda model: in_certificate(model, b'"tiny-several"', b'"another"'),
    ),
    "a damaged certificate": (BadModel, lambda model: in_certificate(model, b"{", b"")),
    "a file that nobody measured": (
        NotCertified,
        lambda model: in_certificate(model, model.variant("float16").sha256.encode(), b"0" * 64),
    ),
    "beyond the tolerance": (
        NotCertified,
        lambda model: in_certificate(model, b'"recall_change":-0.21', b'"recall_change":-0.51'),
    ),
    "int8 input": (BadNetwork, lambda model: with_file(model, "float16", misfit("int8-input"))),
    "a batch of any size": (BadNetwork, lambda model: with_file(model, "float16", misfit("dynamic"))),
    "wrong outputs": (BadNetwork, lambda model: with_file(model, "float16", misfit("dimension-8"))),
    "cut": (
        BadNetwork,
        lambda model: with_file(model, "float16", model.path(model.variant("float16")).read_bytes()[:20_000]),
    ),
}


@pytest.mark.usefixtures("catalog")
@pytest.mark.parametrize("wrong", REFUSED)
def test_a_model_that_is_refused_leaves_nothing_published_and_nothing_signed(
    workspace: Workspace, several_model: Model, tmp_path: Path, wrong: str
) -> None:
    error, spoil = REFUSED[wrong]
    model = spoil(open_model(Path(shutil.copytree(several_model.folder, tmp_path / "model"))))
    before = {path: path.read_bytes() for path in workspace.repository.rglob("*") if path.is_file()}

    with pytest.raises(error):
        publish(workspace, model)

    after = {path: path.read_bytes() for path in workspace.repository.rglob("*") if path.is_file()}
    assert {path for path in after if path.name != ".publishing"} == set(before)
    assert all(after[path] == data for path, data in before.items())
    assert signing.target_names(workspace.metadata) == ()
    assert Releases(workspace.sessions()).latest() is None
    assert Offers(workspace.sessions()).offer("d-1", None, None).version is None
    assert not (workspace.cache / "embeddings.db").exists()  # refused before the long work


def test_a_release_that_no_device_would_take_is_neither_signed_nor_offered(
    workspace: Workspace, tiny_model: Model
) -> None:
    catalog = Catalog(workspace.sessions(), workspace.photo_storage())
    for sku in ("tea", "rice", "soap"):  # photographed with the cap on the lens
        catalog.put_product(Product(sku))
        catalog.add_photo(sku, encode_jpeg(blank()), "packshot", "reference", f"{sku}.jpg")
    with pytest.raises(NothingRecognized, match=r"release 1 recognizes none of its own .*catalog check"):
        publish(workspace, tiny_model)
    assert signing.target_names(workspace.metadata) == ()
    assert Releases(workspace.sessions()).latest() is None
    catalog.put_product(Product("jam"))
    catalog.add_photo("jam", encode_jpeg(draw_pack(3, 1)), "packshot", "reference", "jam.jpg")
    assert publish(workspace, tiny_model).release.version == 1


def blank() -> Picture:
    return np.full((320, 320, 3), 4, np.uint8)


def test_a_shop_whose_photos_are_all_large_gets_a_release_that_devices_take(
    workspace: Workspace, tiny_model: Model, tmp_path: Path
) -> None:
    catalog = Catalog(workspace.sessions(), workspace.photo_storage())
    for number in range(3):
        catalog.put_product(Product(f"pack-{number}"))
        photo = encode_jpeg(draw_pack(number, 5, size=2000))
        assert len(photo) > 512 * 1024
        catalog.add_photo(f"pack-{number}", photo, "packshot", "reference", f"{number}.jpg")
    first = publish(workspace, tiny_model)
    golden = install(workspace, first, tmp_path / "first").release.golden
    assert any(each.verdict == "match" for each in golden)
    catalog.put_product(Product("pack-0", "Another title"))
    again = publish(workspace, tiny_model)
    kept = install(workspace, again, tmp_path / "again").release.golden
    assert {each.photo for each in kept} == {each.photo for each in golden}


# Killed anywhere ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("catalog")
@pytest.mark.parametrize(
    "cut",
    [
        (publishing, "fit_catalog", 0),
        (publishing, "make_release", 0),
        (publishing, "with_golden", 0),
        (publishing, "write_atomically", 0),
        (publishing, "write_atomically", 3),
        (signing, "_write_targets", 0),
        (signing, "_write_online", 0),
        (signing, "write_atomically", 1),
        (signing, "write_atomically", 2),
    ],
    ids=lambda cut: f"{cut[1]}-{cut[2]}",
)
def test_a_publish_that_was_killed_shows_nothing_and_is_just_repeated(
    workspace: Workspace,
    tiny_model: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cut: tuple[object, str, int],
) -> None:
    owner, name, after = cut
    timestamp = (workspace.metadata / "timestamp.json").read_bytes()
    with killed_at(monkeypatch, owner, name, after=after):
        publish(workspace, tiny_model)
    assert (workspace.metadata / "timestamp.json").read_bytes() == timestamp
    assert Releases(workspace.sessions()).latest() is None
    (workspace.files / ".cut-short.tmp").write_bytes(b"half")
    assert Offers(workspace.sessions()).offer("d-1", None, None).version is None
    published = publish(workspace, tiny_model)
    assert published.changed
    install(workspace, published, tmp_path / "device")
    assert not list(workspace.files.glob(".*"))


@pytest.mark.usefixtures("catalog")
def test_a_number_that_was_signed_is_not_used_twice(
    workspace: Workspace, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    with killed_at(monkeypatch, Releases, "record"):
        publish(workspace, tiny_model)
    assert publish(workspace, tiny_model).release.version == 2
    # What was signed and never recorded is signed no more: nobody was ever offered it.
    assert signing.target_names(workspace.metadata) == ("releases/2.json",)


@pytest.mark.usefixtures("catalog")
def test_a_release_that_was_recorded_and_not_offered_is_offered_by_the_next_publish(
    workspace: Workspace, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    with killed_at(monkeypatch, Rollouts, "start"):
        publish(workspace, tiny_model)
    assert not publish(workspace, tiny_model).changed
    assert Offers(workspace.sessions()).offer("d-1", None, None).version == 1


def test_a_file_that_the_disk_has_spoiled_is_mended(
    workspace: Workspace, catalog: Catalog, tiny_model: Model, tmp_path: Path
) -> None:
    first = publish(workspace, tiny_model)
    model_file = workspace.files / tiny_model.variants[0].sha256
    model_file.write_bytes(b"spoiled")
    (workspace.files / first.release.sha256).write_bytes(b"{}")
    add_pack(catalog, 6)
    install(workspace, publish(workspace, tiny_model), tmp_path / "device")


@pytest.mark.usefixtures("catalog")
def test_without_the_offline_key_the_file_is_named_before_the_long_work(
    workspace: Workspace, tiny_model: Model, tmp_path: Path
) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    (workspace.keys / "targets.pem").rename(stick / "targets.pem")

    def never(done: int, total: int) -> None:
        raise AssertionError("embedded before the key was looked at")

    with pytest.raises(StorageUnusable, match=r"targets\.pem is not there: bring .* --keys"):
        publish(workspace, tiny_model, progress=never)
    assert publish(workspace, tiny_model, offline_keys=stick).release.version == 1


def test_an_empty_catalog_is_not_published(workspace: Workspace, tiny_model: Model) -> None:
    with pytest.raises(NoRelease, match="catalog import"):
        publish(workspace, tiny_model)


@pytest.mark.usefixtures("catalog")
def test_of_two_publishes_at_once_one_is_told_to_wait(workspace: Workspace, tiny_model: Model) -> None:
    refused: list[ShelfsightError] = []

    def publish_meanwhile(done: int, total: int) -> None:
        if done == total:
            with pytest.raises(StorageUnusable, match="another publish is at work") as caught:
                publish(workspace, tiny_model)
            refused.append(caught.value)

    publish(workspace, tiny_model, progress=publish_meanwhile)
    assert len(refused) == 1


@pytest.mark.usefixtures("catalog")
def test_a_publish_process_that_is_killed_leaves_every_signed_file_whole(
    workspace: Workspace, tiny_model: Model, tmp_path: Path
) -> None:
    """Kill the real process ever later, from before its first file until after its signature."""
    script = "from cloud.commands import main; main()"
    command = [
        sys.executable,
        "-c",
        script,
        "--data",
        workspace.data,
        "publish",
        "--model",
        tiny_model.folder,
    ]
    began = time.monotonic()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    whole_s = time.monotonic() - began
    for step in range(4):
        add_pack(Catalog(workspace.sessions(), workspace.photo_storage()), 10 + step)
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(whole_s * (0.6 + step / 8))
        process.kill()
        process.wait()
        for path in workspace.files.glob("[0-9a-f]*"):
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    published = publish(workspace, tiny_model)
    assert published.release.products == 10
    install(workspace, published, tmp_path / "device")


def test_publishing_loads_no_tensorflow() -> None:
    script = "import sys, cloud.publishing; print('tensorflow' in sys.modules or 'keras' in sys.modules)"
    finished = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert finished.stdout == "False\n"
