bind = "127.0.0.1:@PORT@"
worker_class = "gevent"
worker_connections = 40
workers = 1
wsgi_app = "shop.wsgi"
preload_app = False
