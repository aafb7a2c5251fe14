"""A small OpenAI-compatible server for tests: real HTTP, answers that depend on the prompt and the seed alone.

``python eval_server.py PORT_FILE [DIES_AFTER] [DELAY_SECONDS]`` writes its port into PORT_FILE; after DIES_AFTER
completions it drops every connection.
"""

import json
import sys
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MODEL = "small"


class Handler(BaseHTTPRequestHandler):
    """Answers /v1/models and /v1/completions."""

    dies_after = 10**9
    delay = 0.0
    served = 0

    def do_GET(self):
        """The list of models."""
        self._send({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "test"}]})

    def do_POST(self):
        """One completion: a boxed digit."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Handler.served += 1
        if Handler.served > Handler.dies_after:
            self.close_connection = True
            return
        time.sleep(Handler.delay)
        choice = self.choice(body)
        if choice is None:
            self._send({"error": {"message": "refused"}}, 400)
            return
        tokens = choice.pop("tokens", 5)
        self._send(
            {
                "id": "1",
                "object": "text_completion",
                "created": 0,
                "model": MODEL,
                "choices": [choice],
                "usage": {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": 1 + tokens},
            }
        )

    def choice(self, body):
        """The response to a request; None: it is refused."""
        digit = zlib.crc32(f"{body['prompt']}/{body['temperature'] and body['seed']}".encode()) % 3
        text = f"so \\boxed{{{digit}}}"
        return {"index": 0, "text": text, "finish_reason": "stop", "logprobs": None, "tokens": 5 + digit}

    def _send(self, content, status=200):
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format, *args):
        """Nothing is logged."""


def serve(port_file: Path, dies_after: int, delay: float) -> None:
    """Serves until the process ends."""
    Handler.dies_after, Handler.delay = dies_after, delay
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    scratch = port_file.with_suffix(".new")
    scratch.write_text(str(server.server_port))
    scratch.rename(port_file)
    server.serve_forever()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
