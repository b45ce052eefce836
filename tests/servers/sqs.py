"""
Amazon SQS as moto plays it: a real HTTP server, in a process of its own, that forgets everything when it ends.
"""

from __future__ import annotations

import sys
import urllib.request
from pathlib import Path
from typing import Any

from tests.servers.process import Program, Server, free_port, missing

#: What boto3 asks for wherever it runs; moto takes any.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class SqsServer(Server):
    """An SQS of its own; `clear` deletes every queue."""

    def __init__(self) -> None:
        self.binary = Path(sys.executable).with_name("moto_server")
        if not self.binary.exists():
            missing("moto is not installed: make lint or make test installs it")
        super().__init__("sqs")
        self.port = 0

    def new_ports(self) -> None:
        self.port = free_port()

    def launch(self) -> Program:
        argv = [str(self.binary), "-H", "127.0.0.1", "-p", str(self.port)]
        return Program(argv, log=self.folder / "server.log", cwd=self.folder).start()

    def answers(self) -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/moto-api/data.json", timeout=5) as answer:
            return bool(answer.status == 200)

    def url(self) -> str:
        """
        Return its URL as a broker.
        """
        return f"sqs://test:test-secret@127.0.0.1:{self.port}"

    def client(self) -> Any:
        """
        Return a boto3 client.
        """
        import boto3

        return boto3.client(
            "sqs",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test-secret",
        )

    def clear(self) -> None:
        """
        Delete every queue with its messages.
        """
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/moto-api/reset", method="POST")
        urllib.request.urlopen(request, timeout=10).close()
