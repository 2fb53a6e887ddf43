"""With hooks, as applications have them that report and that export metrics."""

bind = "127.0.0.1:@PORT@"
wsgi_app = "shop.wsgi"
workers = 1


def on_starting(server):
    server.log.info("starting")


def when_ready(server):
    open("@DIR@/initialized", "w").close()


def pre_fork(server, worker):
    pass


def post_fork(server, worker):
    server.log.info("Worker spawned (pid: %s)", worker.pid)


def child_exit(server, worker):
    open(f"@DIR@/{worker.pid}.ended", "w").close()


def worker_exit(server, worker):
    pass


def pre_request(worker, req):
    worker.log.debug("%s %s", req.method, req.path)
