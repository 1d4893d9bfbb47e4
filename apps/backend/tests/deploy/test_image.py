"""What `deploy/Dockerfile` promises. That it runs so: test_contained.py."""

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

from app.postgres.lease import find_bin_dir
from app.settings import BACKEND_DIR, Settings
from tests.deploy.dockerfile import DEPLOY, ROOT, stages

BUILD, IMAGE = stages()
IGNORED = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]


def sources() -> list[Path]:
    copies = [arguments.split() for stage in (BUILD, IMAGE) for arguments in stage.all("COPY")]
    return [ROOT / source for *found, _ in copies if not found[0].startswith("--from") for source in found]


def test_only_what_it_copies_is_sent_to_the_builder() -> None:
    assert IGNORED[0] == "*"
    let_in = {ROOT / line.removeprefix("!") for line in IGNORED if line.startswith("!")}
    assert let_in == set(sources())
    assert all(path.exists() for path in let_in)


def test_it_holds_all_that_an_installation_reads() -> None:
    folders = {path.name for path in sources()}
    named = set(re.findall(r'(?:BACKEND_DIR|parents\[1\]) / "(\w+)"', "".join(_sources_of_app())))
    assert "migrations" in named
    assert named <= folders


def _sources_of_app() -> list[str]:
    paths = sorted((BACKEND_DIR / "app").rglob("*.py"))
    return [path.read_text() for path in paths if path.name != "demo.py"]  # that is for a clone


def test_packages_are_those_of_the_lock_to_the_hash_and_nothing_is_compiled() -> None:
    [fetch] = [step for step in BUILD.all("RUN") if "runtime.txt" in step]
    assert {"--no-deps", "--require-hashes", "--only-binary"} <= set(fetch.split())
    assert not any(step.count("pip") and "install" in step for step in IMAGE.all("RUN"))


def test_what_is_taken_out_again_is_what_the_build_alone_needs() -> None:
    [install] = [step for step in BUILD.all("RUN") if "uninstall" in step]
    gone = re.search(r"uninstall --yes ([\w -]+?) *&&", install)
    assert gone
    lock = (BACKEND_DIR / "requirements" / "runtime.txt").read_text()
    entries = {entry.partition("==")[0]: entry for entry in re.split(r"^(?=\w)", lock, flags=re.MULTILINE)}
    build = set(tomllib.loads((BACKEND_DIR / "pyproject.toml").read_text())["dependency-groups"]["build"])
    for name in gone[1].split():
        users = {
            line.strip(" #").removeprefix("via ") for line in entries[name].splitlines() if line.startswith("    #")
        }
        assert users - {"via", ""} <= build | {"hatchling", "tribi (pyproject.toml:build)"}, (name, users)


def test_postgresqls_programs_that_stay_are_where_it_says() -> None:
    installed = find_bin_dir("pg_dump").parent
    [install] = [step for step in BUILD.all("RUN") if "pginstall" in step]
    kept = re.findall(r"! -path \./(\S+)", install)
    assert kept == ["bin/pg_dump", "bin/pg_restore"]
    assert all((installed / path).exists() for path in kept)


def test_the_folder_of_its_packages_is_its_pythons() -> None:
    version = re.fullmatch(r"python:(3\.\d+)-slim-\w+", BUILD.base)
    assert version
    assert IMAGE.base == BUILD.base
    assert set(re.findall(r"/python(3\.\d+)/", " ".join(BUILD.all("RUN")))) == {version[1]}


def test_it_runs_as_nobody_in_particular_by_number() -> None:
    [user] = IMAGE.all("USER")
    uid, gid = user.split(":")
    assert int(uid) >= 10_000
    assert int(gid) >= 10_000
    assert f"--uid {uid}" in " ".join(IMAGE.all("RUN"))
    assert not any(name == "USER" for name, _ in BUILD.steps)


def test_its_settings_are_settings_and_no_secrets() -> None:
    settings = {name for name in IMAGE.environment() if not name.startswith("PYTHON")} - {"PATH"}
    assert settings == {"SHUTDOWN_DELAY_SECONDS", "TRIBI_DATA_DIR", "TRIBI_JOURNAL_DIR"}
    assert {name.lower() for name in settings} <= set(Settings.model_fields)


def test_its_volumes_are_named_by_who_runs_it() -> None:
    assert IMAGE.all("VOLUME") == []


def test_no_registry_is_named() -> None:
    images = [BUILD.base, IMAGE.base, *re.findall(r"image: (\S+)", (DEPLOY / "compose.yaml").read_text())]
    assert not any(fnmatch(image, "*/*") for image in images), images
