"""The requests of the benchmarks for locust: `make locust HOST=http://127.0.0.1:8000`.

Serve the shop there (`make run`), open the address that locust names, choose a number of users.
"""

import random

from locust import HttpUser, between, task


class Visitor(HttpUser):
    """Somebody who looks around in the shop."""

    wait_time = between(0.5, 1.5)

    @task(10)
    def home(self) -> None:
        """The page of the `shop` scenario."""
        self.client.get("/")

    @task(3)
    def products(self) -> None:
        """A page of JSON."""
        page = random.randint(1, 20)
        self.client.get(f"/api/products?page={page}", name="/api/products?page=N")

    @task(2)
    def search(self) -> None:
        """A search."""
        self.client.get("/search/?q=oak", name="/search/?q=...")

    @task(1)
    def wait(self) -> None:
        """A page that waits, as those of the `mixed` scenario; with DIAGNOSTICS only."""
        self.client.get("/diagnostics/wait?ms=200")
