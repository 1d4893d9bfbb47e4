"""The README's walk works as it is written."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import zxingcpp
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
_WALK = re.compile(r"<!-- walk:.*?-->\n```sh\n(.*?)```", re.DOTALL)


def test_the_walk_from_a_key_to_a_qr_code_works_as_written(tmp_path: Path) -> None:
    walk = _WALK.search((ROOT / "README.md").read_text())
    assert walk, "the README has no walk"
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "tribi").symlink_to(Path(sys.executable).with_name("tribi"))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "TRIBI_ENV_FILE": os.devnull,
        "TRIBI_DATA_DIR": str(tmp_path / "data"),
        "ESIM_PROVIDER": "CONNECTED_YOU",
        "CONNECTED_YOU_PARTNER_ID": "my-partner-id",
    }
    log = (tmp_path / "serve.log").open("w+")
    command = [str(tmp_path / ".venv" / "bin" / "tribi"), "serve", "--port", "0"]
    server = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT)
    try:
        url = _listening(log.name, server)
        assert shutil.which("curl"), "this test needs curl: apt-get install -y curl"
        script = "set -eu\n" + walk[1].replace("http://127.0.0.1:8000", url)
        done = subprocess.run(
            ["bash", "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert '"status":"provisioned"' in done.stdout
        [barcode] = zxingcpp.read_barcodes(Image.open(tmp_path / "qr.png"))
        assert barcode.text.startswith("LPA:1$")
        assert barcode.text in done.stdout
    finally:
        server.terminate()
        assert server.wait(30) == 0
        log.close()


def _listening(log: str, server: "subprocess.Popen[bytes]") -> str:
    for _ in range(300):
        for line in Path(log).read_text().splitlines():
            if "server.started" in line:
                return str(json.loads(line)["url"])
        assert server.poll() is None, Path(log).read_text()
        time.sleep(0.1)
    raise AssertionError(Path(log).read_text())
