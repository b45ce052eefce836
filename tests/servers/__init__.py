"""
Real servers for tests, on private ports, in temporary folders.
"""

from tests.servers.http import Answer, HttpServer
from tests.servers.postgres import PostgresServer, postgres_binary
from tests.servers.process import Program, Server, free_port, missing, need, temporary_folder
from tests.servers.rabbitmq import RabbitServer
from tests.servers.redis import RedisServer, redis_binary
from tests.servers.smtp import SmtpServer
from tests.servers.sqs import SqsServer

__all__ = [
    "Answer",
    "HttpServer",
    "PostgresServer",
    "Program",
    "RabbitServer",
    "RedisServer",
    "Server",
    "SmtpServer",
    "SqsServer",
    "free_port",
    "missing",
    "need",
    "postgres_binary",
    "redis_binary",
    "temporary_folder",
]
