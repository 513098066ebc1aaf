"""An application of the trials, for a WSGI server."""
import os

log = os.open(os.environ["TRIAL_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
filler = "x" * int(os.environ["TRIAL_ANSWER"])


def application(environ, start_response):
    ident = environ["HTTP_TRIAL_ID"]
    os.write(log, f"id {ident}\n".encode())
    size = 0
    while chunk := environ["wsgi.input"].read(65536):
        size += len(chunk)
    if size != int(environ["HTTP_TRIAL_SIZE"]):
        start_response("400 Bad Request", [("Content-Length", "0")])
        return []
    body = f"{ident}\n{filler}\n".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
