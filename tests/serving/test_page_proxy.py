"""The page in a real browser behind a proxy that shows the server under a path of its own."""

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

NAME = "books.localhost"  # browsers take every name under localhost for this machine


@contextlib.contextmanager
def proxied(upstream, strips):
    """A proxy's port; it passes /books on, with or without that path, under the server's own name."""

    class Handler(BaseHTTPRequestHandler):
        def pass_on(self):
            path = self.path.removeprefix("/books") or "/" if strips else self.path
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {k: v for k, v in self.headers.items() if k not in ("Host", "Connection")}
            answer = httpx.request(self.command, upstream + path, content=body, headers=headers)
            self.send_response(answer.status_code)
            for name in ("content-type", "content-security-policy", "location"):
                if name in answer.headers:
                    self.send_header(name, answer.headers[name])
            self.send_header("content-length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do_PUT = pass_on

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("strips", [True, False])
def test_the_page_works_under_a_path_and_another_name(browser, launch, strips):
    server = launch(flags=["--root-path", "/books", "--allowed-host", NAME])
    with proxied(server.url, strips) as port, contextlib.closing(browser.new_context()) as context:
        page, asked = context.new_page(), []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"http://{NAME}:{port}/books")
        page.locator("#both > li").first.wait_for()
        page.fill("#query", "film")
        page.locator("#found button").first.wait_for()
        page.fill("#new-title", "A title of its own")
        page.get_by_role("button", name="Add it").click()
        page.locator("#landed", has_text="A title of its own").wait_for()
        assert "Run run-A" in page.inner_text("#model")
        assert asked and all(f":{port}/books" in url or url.startswith("data:") for url in asked)
