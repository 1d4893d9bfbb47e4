"""The provider's credential is read again while a server runs: a vault may put another one into its file at any time."""

import asyncio

import structlog
from pydantic import SecretStr

from app.logs import learn_secret
from app.services.esim_providers import EsimProvider, TakesCredential
from app.settings import Settings

LOOK_INTERVAL_S = 1
"""A new one is in use once it was seen twice: after two of these, or three."""

log = structlog.get_logger()


class SecretFile:
    """The file of one secret, looked at again and again."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._name = name
        in_use: SecretStr | None = getattr(settings, name)
        self._in_use = in_use.get_secret_value() if in_use else None
        self._seen_last: str | None = None
        self.trouble: str | None = None
        """Why the last look found nothing that could be the secret; None where it did."""

    def look(self) -> str | None:
        """
        Returns:
            Another secret, once two looks in a row have found the same one: a file that is being written may be half of it.
        """
        try:
            found = self._settings.read_again(self._name)
        except ValueError as error:
            self.trouble, self._seen_last = str(error), None
            return None
        seen_last, self._seen_last, self.trouble = self._seen_last, found, None
        if found == self._in_use or found != seen_last:
            return None
        self._in_use = found
        return found


async def keep_credential_current(settings: Settings, provider: EsimProvider) -> None:
    """Until cancelled; ends by itself where there is none that may be renewed, or it came from no file."""
    if not isinstance(provider, TakesCredential) or settings.file_of(provider.credential_setting) is None:
        return
    name = provider.credential_setting
    file, told = SecretFile(settings, name), None
    while True:
        try:
            # A file system that has gone away may let a reader wait.
            credential = await asyncio.to_thread(file.look)
            if file.trouble is not None and file.trouble != told:
                log.warning(
                    "secrets.file_not_usable", setting=name.upper(), reason=file.trouble, effect="the former one stays"
                )
            told = file.trouble
            if credential is not None:
                learn_secret(credential)  # before anybody can send it, and say what came of it
                provider.use_credential(credential)
                log.info("secrets.renewed", setting=name.upper(), effect="from the next order on")
        except Exception:
            log.exception("secrets.look_failed", setting=name.upper())
        await asyncio.sleep(LOOK_INTERVAL_S)
