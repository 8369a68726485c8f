"""Clients of semaphored, and a receiver of its callbacks, for tests/package; run in the network of its container.

listen PORT                 takes what is posted, and writes each request as a line of JSON
wait COUNT SEMAPHORE        as many requests that wait; writes `sent`, and at the end how many got which status
knock                       asks for /readyz over new connections until standard input ends; writes what came of them
"""

import collections
import http.server
import json
import os
import resource
import socket
import sys
import threading

SERVICE = ("127.0.0.1", 7420)


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        print(
            json.dumps({"headers": {name.lower(): value for name, value in self.headers.items()}, "body": body}),
            flush=True,
        )
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def listen(port):
    server = http.server.HTTPServer(("127.0.0.1", int(port)), Receiver)
    print("listening", flush=True)
    server.serve_forever()


def wait(count, semaphore):
    count = int(count)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    body = json.dumps({"permits": {semaphore: 1}})
    connections = []
    for number in range(count):
        connection = socket.create_connection(SERVICE)
        head = (
            f"PUT /api/v1/claims/waiter-{number}?wait=50s HTTP/1.1\r\nHost: semaphore\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {os.environ['SEMAPHORE_TOKEN']}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        connection.sendall((head + body).encode())
        connections.append(connection)
    print("sent", flush=True)
    print(json.dumps(collections.Counter(status(connection) for connection in connections)), flush=True)


def status(connection):
    """The status of the answer, or what came instead of one."""
    connection.settimeout(60)
    try:
        answer = connection.recv(64)
    except OSError as error:
        return type(error).__name__
    return answer.split()[1].decode() if answer else "closed"


def knock():
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    counts = collections.Counter()
    print("knocking", flush=True)
    while not ended.is_set():
        try:
            with socket.create_connection(SERVICE) as connection:
                connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: semaphore\r\nConnection: close\r\n\r\n")
                counts[status(connection)] += 1
        except ConnectionRefusedError:
            counts["refused"] += 1
        except OSError as error:
            counts[type(error).__name__] += 1
    print(json.dumps(counts), flush=True)


{"listen": listen, "wait": wait, "knock": knock}[sys.argv[1]](*sys.argv[2:])
