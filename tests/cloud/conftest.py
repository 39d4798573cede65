"""What the tests of the cloud share: a signed workspace, a catalog of drawn packs, and the server over it."""

import hashlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event
from sqlalchemy.pool import Pool

from cloud import signing
from cloud.app import create_app
from cloud.catalog import Catalog
from cloud.database import open_database
from cloud.workspace import Workspace
from edge.certificate import CERTIFICATE_FILE, Certificate, read_certificate
from edge.image import Picture, encode_jpeg
from edge.model import Model, open_model, write_model
from edge.products import Product
from tools.servers import Postgres, postgres_programs, running_postgres

ROOT = Path(__file__).resolve().parents[2]


# Whose tests ask the database: they run on SQLite and on PostgreSQL.
ON_BOTH_DATABASES = {
    f"test_{name}"
    for name in (
        "api",
        "app",
        "catalog",
        "console",
        "events",
        "fleet",
        "people",
        "rollouts",
        "offers",
        "conductor",
        "wave",
        "accuracy",
        "proposals",
    )
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that has a workspace, in a module that is named above, on both databases."""
    if (
        "database_url" in metafunc.fixturenames
        and metafunc.module.__name__.split(".")[-1] in ON_BOTH_DATABASES
    ):
        metafunc.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Give a real PostgreSQL, one for all tests of this process."""
    if postgres_programs() is None:
        if os.environ.get("SHELFSIGHT_REQUIRE_SERVERS") == "1":
            pytest.fail("SHELFSIGHT_REQUIRE_SERVERS is set, and there is no PostgreSQL")
        pytest.skip("there is no PostgreSQL: apt-get install postgresql")
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def shop_template(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give the name of a database with our tables, for others to be made like it."""
    name = postgres.create()
    with connections_closed():
        open_database(tmp_path_factory.mktemp("template"), postgres.url(name))
    return name


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Give the address of an empty shop's database in PostgreSQL, or None for the file in the data folder."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield None
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    name = postgres.create(request.getfixturevalue("shop_template"))
    with connections_closed():
        yield postgres.url(name)
    postgres.drop(name)


@contextmanager
def connections_closed() -> Iterator[None]:
    """Close the connections to PostgreSQL that were opened meanwhile, as a process does when it ends."""
    opened: list[Any] = []

    def note(connection: Any, _record: object) -> None:
        opened.append(connection)

    event.listen(Pool, "connect", note)
    try:
        yield
    finally:
        event.remove(Pool, "connect", note)
        for connection in opened:
            if not isinstance(connection, sqlite3.Connection):
                connection.close()


@pytest.fixture
def workspace(tmp_path: Path, database_url: str | None) -> Workspace:
    """Give a new data folder with keys and an empty signed repository, as `init` makes it."""
    made = Workspace.create(tmp_path / "data", database_url)
    signing.create_repository(made.metadata, made.keys)
    return made


@pytest.fixture
def catalog(workspace: Workspace) -> Catalog:
    """Give the workspace's catalog with six packs, three photos each."""
    filled = Catalog(workspace.sessions(), workspace.photo_storage())
    for number in range(6):
        add_pack(filled, number)
    return filled


@pytest.fixture
def app(workspace: Workspace) -> Flask:
    """Give the server of the workspace."""
    return create_app(workspace)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """Give a caller on the server's own machine."""
    return app.test_client()


@contextmanager
def serving(
    workspace: Workspace,
    *options: str,
    stop_by: signal.Signals = signal.SIGTERM,
    by: Sequence[str] = (),
) -> Iterator[str]:
    """Run `shelfsight-cloud serve` on a free port in a process of its own, started `by` that command; gives
    its address."""
    command = [*by, sys.executable, "-c", "from cloud.commands import main; main()", "serve", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--data", str(workspace.data), *database_flag(workspace), *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        greeting = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", greeting)
        try:
            assert found, greeting
            yield found[0]
        finally:
            process.send_signal(stop_by)
            said = process.stdout.read()
            assert process.wait(timeout=10) == 0
    assert said.endswith("Stopped.\n")


def database_flag(workspace: Workspace) -> list[str]:
    """Return what a command needs on its line to find the workspace's database."""
    return ["--database", workspace.database_url] if workspace.database_url else []


def add_pack(catalog: Catalog, number: int, *, price: str | None = None) -> str:
    """Put drawn product `number` into the catalog, one packshot and two in-store photos; return its SKU."""
    product = Product(f"pack-{number:02}", f"Pack {number}", "packs", price=price)
    catalog.put_product(product)
    for shot in range(3):
        photo = encode_jpeg(draw_pack(number, shot))
        kind, split = ("packshot", "reference") if shot == 0 else ("in-store", "train")
        catalog.add_photo(product.sku, photo, kind, split, f"{number}/{shot}.jpg")
    return product.sku


def add_labeled(catalog: Catalog, number: int, *, photos: int) -> None:
    """Put in-store photos of the split `validation` of drawn product `number` into the catalog."""
    for shot in range(100, 100 + photos):
        photo = encode_jpeg(draw_pack(number, shot))
        catalog.add_photo(f"pack-{number:02}", photo, "in-store", "validation", f"{number}/{shot}.jpg")


def draw_pack(number: int, shot: int, size: int = 96) -> Picture:
    """Draw a pack of blocks in colors of its own; another `shot` is another light and another noise."""
    rng = np.random.default_rng(number)
    colors = rng.uniform(0, 255, (4, 3))
    pack = np.empty((size, size, 3))
    pack[:] = 255.0 if number % 2 else colors[0]
    pack[size // 8 : -size // 8, size // 5 : -size // 5] = colors[1]
    for color in colors[2:]:
        top, left = rng.integers(size // 8, size // 2, 2)
        height, width = rng.integers(size // 6, size // 2, 2)
        pack[top : top + height, left : left + width] = color
    light = np.random.default_rng(1000 * number + shot)
    lit = pack * light.uniform(0.85, 1.1) + light.normal(0, 4, pack.shape)
    return np.clip(lit, 0, 255).astype(np.uint8)


def certificate_of(model: Model) -> Certificate:
    """Read the certificate that lies in a model folder."""
    found = read_certificate(model.folder)
    assert found is not None
    return found


def certify(model: Model, certificate: Certificate) -> None:
    """Lay a certificate into a model folder."""
    (model.folder / CERTIFICATE_FILE).write_bytes(certificate.to_bytes())


def with_file(model: Model, name: str, data: bytes) -> Model:
    """Give a variant another file, and certify that one as the one before: only the file is wrong."""
    sha256 = hashlib.sha256(data).hexdigest()
    before = model.variant(name)
    model.path(before).write_bytes(data)
    variants = [
        replace(each, sha256=sha256, size=len(data)) if each is before else each for each in model.variants
    ]
    write_model(replace(model, variants=tuple(variants)), model.folder)
    found = certificate_of(model)
    files = [replace(each, sha256=sha256) if each.sha256 == before.sha256 else each for each in found.files]
    certify(model, replace(found, files=tuple(files)))
    return open_model(model.folder)
