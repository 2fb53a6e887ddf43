import multiprocessing
import os

cores = min(multiprocessing.cpu_count(), 1)
bind = f"{os.getenv('SHOP_HOST', '127.0.0.1')}:{os.environ.get('SHOP_PORT', '8000')}"
workers = int(os.getenv("SHOP_WORKERS", cores * 2 + 1))
threads = 2 if "SHOP_THREADED" in os.environ else 1
max_requests = 1000
max_requests_jitter = 50
wsgi_app = "shop.wsgi"
graceful_timeout = 20
