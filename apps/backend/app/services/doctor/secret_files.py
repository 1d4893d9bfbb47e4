"""The files that hold secrets: nobody but their owner and group may read them."""

import asyncio
import stat
from pathlib import Path

from pydantic import SecretStr

from app.house import KEY_FILE
from app.services.doctor.findings import Finding, failed, passed
from app.settings import Settings, named_in_env_file

_OTHERS_MAY = stat.S_IROTH | stat.S_IWOTH


async def check_secret_files(settings: Settings) -> list[Finding]:
    """That they can be read has shown: without that there are no settings."""
    files = _files_of(settings)
    if not files:
        return [passed("secret-files", "no file holds a secret; the environment does, or there is none")]
    exposed = [path for path in files if await asyncio.to_thread(_is_open_to_others, path)]
    if exposed:
        detail = f"every user of this machine can read {' and '.join(map(str, exposed))}"
        to_do = "; ".join(f"chmod o= {path}" for path in exposed)
        return [failed("secret-files", detail, f"{to_do} (Kubernetes: defaultMode: 0400)")]
    return [passed("secret-files", f"{' and '.join(map(str, files))}: not for everybody's eyes")]


def _files_of(settings: Settings) -> list[Path]:
    secret = [name for name in type(settings).model_fields if isinstance(getattr(settings, name), SecretStr)]
    files = [path for name in secret if (path := settings.file_of(name)) is not None]
    if named_in_env_file() & set(secret):
        files.append(Path(str(type(settings).model_config["env_file"])))
    if settings.is_embedded and settings.encryption_key is None:
        files.append(settings.tribi_data_dir / KEY_FILE)
    return list(dict.fromkeys(path for path in files if path.exists()))


def _is_open_to_others(path: Path) -> bool:
    """A file in a folder that others can't enter is closed, whatever its own mode says."""
    real = path.resolve()
    may_enter = all(folder.stat().st_mode & stat.S_IXOTH for folder in real.parents)
    return may_enter and bool(real.stat().st_mode & _OTHERS_MAY)
