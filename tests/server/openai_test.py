#!/usr/bin/env python3
"""Tests the server with the official OpenAI client (openai/client.mjs)."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from support.cake_process import MODELS  # noqa: E402
from support.server import Server  # noqa: E402

SOURCE = pathlib.Path(__file__).parent / "openai"
FOLDER = pathlib.Path(os.environ.get("CAKE_NODE_MODULES") or MODELS.parent / "openai-client")
KEY = "a-key-of-the-tests"
# corepack checks the npm that it fetches against the hash in package.json. The additional signature check is disabled,
# because corepack's built-in keys go out of date.
COREPACK = {"COREPACK_INTEGRITY_KEYS": "0", "COREPACK_ENABLE_DOWNLOAD_PROMPT": "0", "NODE_USE_SYSTEM_CA": "1"}


def install():
    """Installs the client that package-lock.json names into a build folder, unless it is already there."""
    installed = FOLDER / "installed.json"  # copy of the lock file that was installed
    lock = SOURCE / "package-lock.json"
    if not installed.exists() or installed.read_bytes() != lock.read_bytes():
        FOLDER.mkdir(parents=True, exist_ok=True)
        installed.unlink(missing_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(SOURCE / name, FOLDER)
        log = FOLDER / "npm.log"
        with log.open("w") as output:
            command = ["corepack", "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]
            npm = subprocess.run(command, cwd=FOLDER, env={**os.environ, **COREPACK}, stdout=output, stderr=output,
                                 timeout=600, check=False)
        if npm.returncode != 0:
            raise RuntimeError(f"the OpenAI client could not be installed into {FOLDER}: npm's registry has to be reachable "
                               f"the first time (what npm says is in {log})")
        shutil.copy(lock, installed)
    # Node looks for packages in the folder of the module.
    shutil.copy(SOURCE / "client.mjs", FOLDER)


class OpenAiClient(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        install()

    def check(self, part, server, key=""):
        """Runs a part of client.mjs against a server."""
        node = subprocess.run(
            ["node", "--test", "--test-reporter=spec", "client.mjs"], cwd=FOLDER, timeout=600, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "CAKE_PART": part, "CAKE_URL": f"http://127.0.0.1:{server.port}/",
                 "CAKE_PID": str(server.process.pid), "CAKE_KEY": key})
        output = node.stdout.decode()
        self.assertEqual(node.returncode, 0, output)
        self.assertGreater(int(re.search(r"^\S* ?pass (\d+)$", output, re.MULTILINE)[1]), 0, output)

    def test_the_whole_api(self):
        with Server("-c", 65536) as server:
            self.check("open", server)
            self.assertEqual(server.stop(), 0)

    def test_a_key(self):
        with Server(env={"CAKE_API_KEY": KEY}) as server:
            self.check("key", server, KEY)

    def test_a_busy_server(self):
        with Server("-c", 65536, "--parallel", 1, "--queue", 0) as server:
            self.check("busy", server)

    def test_a_server_that_is_stopped(self):
        with Server("-c", 65536, "--grace", 2) as server:
            self.check("stopped", server)
            server.process.communicate(timeout=30)
            self.assertEqual(server.process.returncode, 0)


if __name__ == "__main__":
    unittest.main()
