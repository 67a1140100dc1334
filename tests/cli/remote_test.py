#!/usr/bin/env python3
"""Layers on other machines (--rpc): what the user sees when a server cannot be reached or goes away."""

import http.client
import json
import pathlib
import socket
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from support.cake_process import BUNDLED, WORDS, InFolder, assert_refused, cake, command, environment  # noqa: E402
from support.rpc_server import RpcServer, free_port  # noqa: E402
from support.server import Server, events  # noqa: E402

SECONDS = 5  # within which the user is told
LAYERS = ("-ngl", 4)  # the model has 6, and the output counts as one more


def start(*arguments, server):
    return subprocess.Popen(command(*arguments, "-m", BUNDLED, "-t", 1, "--rpc", server.name), stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())


class Remote(InFolder):
    def assert_told(self, process, server):
        """Kills the server, and checks that the process ends soon with a sentence that names it."""
        server.kill()
        begin = time.monotonic()
        _, errors = process.communicate(timeout=60)
        self.assertLess(time.monotonic() - begin, SECONDS)
        self.assertEqual(process.returncode, 1, errors)
        self.assertEqual(errors.decode().splitlines()[-1], f"cake: the server {server.name} has gone away: start it again, then start cake again")

    def test_gives_the_same_text(self):
        arguments = ("-m", BUNDLED, "-t", 1, "--temp", 0, "-n", 24, "--ggml-attention", "--kv-budget", 96, "-p", WORDS)
        here = cake("run", *arguments, "--device", "none")
        with RpcServer() as first, RpcServer() as second:
            for devices in (("--rpc", first.name), ("--rpc", first.name, *LAYERS), ("--rpc", f"{first.name},{second.name}")):
                with self.subTest(devices=devices):
                    there = cake("run", *arguments, *devices)
                    self.assertEqual(there.returncode, 0, there.stderr)
                    self.assertEqual(there.stdout, here.stdout)

    def test_says_what_is_where(self):
        with RpcServer() as server:
            result = cake("run", "-m", BUNDLED, "--rpc", server.name, *LAYERS, "-n", 1, "-p", "a")
            self.assertIn("cake: layers 0 to 2 on the CPU, 3 to 5 and the output on RPC0", result.stderr.decode())
            result = cake("run", "--rpc", server.name, "--list-devices")
            self.assertRegex(result.stdout.decode(), rf"\ARPC0: {server.name}, .+ free of .+\n\Z")

    def test_a_server_that_goes_away_while_a_text_is_read(self):
        text = self.write((WORDS * 40).encode(), "text.txt")
        with RpcServer() as server, start("run", "-n", 1, "-f", text, server=server) as process:
            server.work(0.3)
            self.assertIsNone(process.poll())
            self.assert_told(process, server)

    def test_a_server_that_goes_away_while_an_answer_is_written(self):
        with RpcServer() as server, start("run", "-n", 1000000, "--ignore-eos", "-p", "a", *LAYERS, server=server) as process:
            self.assertTrue(process.stdout.read(100))
            self.assert_told(process, server)

    def test_a_server_that_goes_away_between_two_answers(self):
        with RpcServer() as server, start("chat", "-n", 4, "--chat-template", "chatml", *LAYERS, server=server) as process:
            process.stdin.write(b"Hello\n")
            process.stdin.flush()
            self.assertTrue(process.stdout.read(1))
            time.sleep(1)
            server.kill()
            process.stdin.write(b"Hello again\n")
            process.stdin.flush()
            self.assert_told(process, server)

    def test_servers_that_cannot_be_used(self):
        port = free_port()
        run = ("run", "-m", BUNDLED, "-n", 1, "-p", "a", "--rpc")
        assert_refused(self, cake(*run, f"127.0.0.1:{port}"), f"127.0.0.1:{port} cannot be reached", "start ggml-rpc-server there")
        assert_refused(self, cake(*run, "nowhere.invalid:1"), "nowhere.invalid:1: the name of the host does not resolve")
        for wrong in ("127.0.0.1", "127.0.0.1:", ":1", "127.0.0.1:x", "127.0.0.1:99999", ""):
            if wrong:
                assert_refused(self, cake(*run, wrong), f'"{wrong}" is not HOST:PORT')
        with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts connections and never answers
            name = f"127.0.0.1:{silent.getsockname()[1]}"
            begin = time.monotonic()
            assert_refused(self, cake(*run, name), f"{name} does not answer: ggml-rpc-server serves one program at a time")
            self.assertLess(time.monotonic() - begin, 2 * SECONDS)
        with socket.create_server(("127.0.0.1", 0)) as other:  # closes them
            name = f"127.0.0.1:{other.getsockname()[1]}"
            threading.Thread(target=lambda: [other.accept()[0].close() for _ in range(2)], daemon=True).start()
            assert_refused(self, cake(*run, name), f"{name} does not answer as ggml")

    def test_a_served_model_whose_server_goes_away(self):
        with RpcServer() as remote, Server("--rpc", remote.name, *LAYERS) as server:
            self.assertEqual(server.complete("a", max_tokens=2)["usage"]["completion_tokens"], 2)
            connection = server.connect()
            body = {"prompt": "a", "max_tokens": 1000000, "ignore_eos": True, "stream": True}
            connection.request("POST", "/v1/completions", json.dumps(body))
            response = connection.getresponse()
            for _ in range(20):
                self.assertTrue(response.readline())
            sentence = f"the server {remote.name} has gone away: start it again, then start cake again"
            remote.kill()
            begin = time.monotonic()
            last = list(events(response))[-1]
            self.assertLess(time.monotonic() - begin, SECONDS)
            self.assertIn(sentence, last["error"]["message"])
            response.close()
            connection.close()
            status, _, answer = server.ask("POST", "/v1/completions", {"prompt": "a"})
            self.assertEqual((status, answer["error"]["message"]), (http.client.SERVICE_UNAVAILABLE, sentence))
            self.assertEqual(server.ask("GET", "/health")[0], http.client.SERVICE_UNAVAILABLE)
            # What needs no device goes on.
            self.assertEqual(len(server.get("/v1/models")["data"]), 1)
            self.assertTrue(server.ask("POST", "/tokenize", {"content": "a b"})[2]["tokens"])
            self.assertIn(b"cake_", server.get("/metrics"))
            self.assertEqual(server.ask("GET", "/slots")[0], http.client.OK)
            self.assertEqual(server.stop(), 1)
            self.assertIn(sentence, server.errors)


    def test_a_served_model_whose_server_goes_away_between_requests(self):
        with RpcServer() as remote, Server("--rpc", remote.name, "--parallel", 1) as server:
            server.complete("one prompt", max_tokens=2)
            remote.kill()
            # Another prompt needs the memory of the sequence that is still there.
            status, _, answer = server.ask("POST", "/v1/completions", {"prompt": "another prompt"}, timeout=2 * SECONDS)
            self.assertGreaterEqual(status, http.client.INTERNAL_SERVER_ERROR)
            self.assertIn(f"the server {remote.name} has gone away", answer["error"]["message"])
            for path in ("/health", "/metrics", "/slots", "/v1/models"):
                server.ask("GET", path, timeout=SECONDS)
            self.assertEqual(server.stop(timeout=SECONDS), 1)

    def test_a_server_that_is_stopped_after_its_remote_server(self):
        with RpcServer() as remote, Server("--rpc", remote.name) as server:
            server.complete("a", max_tokens=2)
            remote.kill()
            self.assertEqual(server.stop(timeout=SECONDS), 1)
            self.assertIn(f"the server {remote.name} has gone away", server.errors)

    def test_a_name_of_this_machine_is_its_address(self):
        with RpcServer() as server:
            result = cake("run", "--rpc", f"localhost:{server.port}", "--list-devices")
            self.assertIn(f"RPC0: localhost:{server.port}", result.stdout.decode())


if __name__ == "__main__":
    unittest.main()
