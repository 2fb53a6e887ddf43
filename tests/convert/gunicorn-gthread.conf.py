from gunicorn_shared import *  # noqa: F403

wsgi_app = "shop.wsgi:create_app()"
worker_class = "gthread"
threads = 3
worker_connections = 500
preload_app = True
forwarded_allow_ips = "*"
reuse_port = True
sendfile = True
backlog = 64
